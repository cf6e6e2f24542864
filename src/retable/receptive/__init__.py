"""What a unit of a trained network looks at: its theoretical, empirical and effective receptive fields (report D2)."""
