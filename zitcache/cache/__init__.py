"""What lies in a model cache: where SDKs look, layouts, inventory, safetensors headers, fingerprints."""
