"""Recordings of event cameras and of spiking ears."""
