//! Tables, plots, HTML and validation reports of presil Runs.
