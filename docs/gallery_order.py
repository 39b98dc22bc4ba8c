"""Order of the gallery: as listed here, then by name."""

FIRST = [
    "plot_digits",
    "plot_displays",
    "plot_reading_a_fit",
    "plot_dataframes",
    "plot_mixed_table",
    "plot_fill_missing_entries",
    "plot_synthetic_table",
    "plot_counts",
    "plot_images",
    "plot_missing_values",
    "plot_big_data",
    "plot_pipeline_search",
    "plot_choose_components",
    "plot_searches",
    "plot_custom_network",
    "plot_sampling_interpolation",
    "plot_outliers",
    "plot_anomaly_scores",
    "plot_compare_reducers",
    "plot_linear_is_pca",
]


class ByList:
    """Sorting key of file names."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, filename):
        stem = str(filename).removesuffix(".py")
        return (FIRST.index(stem) if stem in FIRST else len(FIRST), stem)

    def __repr__(self):
        return f"<{type(self).__name__}>"
