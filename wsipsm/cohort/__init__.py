"""Many slides: what a study is made of, its order of work, its table, its page."""
