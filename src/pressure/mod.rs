//! Where figures about the machine come from.

mod host;
