"""Training runs side by side: what each is, means and deviations over seeds, and paired tests."""
