//! Ends: idle, deadlines, resets and wills.
