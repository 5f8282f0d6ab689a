"""Results sent on to archives: by C-STORE or STOW-RS, asked for afterwards, never lost."""
