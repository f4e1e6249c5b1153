//! Somebody who can make room.

use std::fmt::Debug;

use async_trait::async_trait;

use super::error::AllocateError;

/// Makes room when an allocation finds too little: drops what is cached, moves what is idle to another tier.
///
/// It is asked once for an allocation, which is then tried once more. No lock is held meanwhile, so it may use the
/// same [`Tiers`](super::Tiers); an allocation of its own that finds too little asks it again.
///
/// ```
/// use bursar::tiered::{AllocateError, Relief};
///
/// #[derive(Debug)]
/// struct Caches(std::sync::Mutex<Vec<bursar::tiered::Block>>);
///
/// #[async_trait::async_trait]
/// impl Relief for Caches {
///     async fn relieve(&self, _: &AllocateError) -> bool {
///         self.0.lock().unwrap().pop().is_some()
///     }
/// }
/// ```
#[async_trait]
pub trait Relief: Send + Sync + Debug {
    /// Tries to make room for what could not be allocated, and says whether it is worth trying again.
    async fn relieve(&self, refused: &AllocateError) -> bool;
}
