"""Features of data sets' pictures."""
