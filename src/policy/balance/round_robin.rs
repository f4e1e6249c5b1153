//! One after the other, in the order of registration.

/// `turn` counts the tasks so far, so that workers that come and go do not restart the round.
pub(super) fn choose(able: &[usize], turn: &mut usize) -> usize {
    let at = able[*turn % able.len()];
    *turn = turn.wrapping_add(1);
    at
}
