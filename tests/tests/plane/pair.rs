//! The pair of processes: deaths, freezes, stops, reloads.
