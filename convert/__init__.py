"""Float graphs: checkpoint to NIR and back, by our own exporter on nir alone."""
