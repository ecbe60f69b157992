//! VIP.
