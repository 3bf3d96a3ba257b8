"""One-to-one assignment on a sparse set of allowed pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def assign_pairs(rows: NDArray[np.intp], columns: NDArray[np.intp], gain: NDArray[np.float64]) -> NDArray[np.intp]:
    """Choose pairs so that each row and column is used once and the total gain is largest.

    Pairs that share neither row nor column do not exclude each other. So each connected component of the graph of pairs
    is solved on its own, by the Hungarian method. The result is exact, and fast even for a whole slide.

    Parameters
    ----------
    rows, columns
        Row and column of each allowed pair, shape (n,), each pair at most once.
    gain
        Gain of each pair, shape (n,), above 0.

    Returns
    -------
    Indices of the chosen pairs, ascending, shape (m,).
    """
    if rows.size == 0:
        return np.empty(0, np.intp)
    n_rows, n_columns = int(rows.max()) + 1, int(columns.max()) + 1
    n_nodes = n_rows + n_columns
    graph = coo_array((np.ones(rows.size, np.int8), (rows, columns + n_rows)), shape=(n_nodes, n_nodes))
    component = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(component, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(component[order])) + 1)
    chosen = [group if group.size == 1 else _assign_dense(group, rows, columns, gain) for group in groups]
    return np.sort(np.concatenate(chosen))


def _assign_dense(
    group: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp], gain: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Solve one component as a dense matrix in which a pair that is not allowed has the gain 0."""
    row_ids, row = np.unique(rows[group], return_inverse=True)
    column_ids, column = np.unique(columns[group], return_inverse=True)
    matrix = np.zeros((row_ids.size, column_ids.size))
    pair = np.full(matrix.shape, -1, np.intp)
    matrix[row, column] = gain[group]
    pair[row, column] = group
    picked = pair[linear_sum_assignment(matrix, maximize=True)]
    return picked[picked >= 0]
