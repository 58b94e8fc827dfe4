"""The rules, pure: values in, values out; opens nothing, reads no clock, logs nothing."""
