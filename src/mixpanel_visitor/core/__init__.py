"""The sans-IO core: values in, values out. Time, fresh ids and keys come in as arguments."""
