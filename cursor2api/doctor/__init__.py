"""The doctor: tries the settings in use against the real upstream."""
