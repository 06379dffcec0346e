"""What assets are given by Dagster: the site and its lake."""
