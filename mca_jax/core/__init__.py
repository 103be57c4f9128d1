"""What every stage stands on: types, errors, keys, numerics, files, devices."""
