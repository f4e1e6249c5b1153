//! Which worker gets which task.
