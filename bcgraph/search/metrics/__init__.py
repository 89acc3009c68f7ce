"""What a search may go by beside accuracy and scores: costs, energy and spikes on data, latency."""
