//! What the proof says, pinned on generated traces.
