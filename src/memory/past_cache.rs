//! Copies of memory that nobody reads soon: written past the caches of the processor, which so need not fetch what is
//! overwritten, nor lose what they have. That is a third less for the memory to do.

/// Copies one slice into another, which is as long.
///
/// # Panics
/// If it is not.
#[cfg(target_arch = "x86_64")]
pub(super) fn copy_past_cache(to: &mut [u8], from: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    /// What the processor writes at once.
    const LINE: usize = 64;

    assert_eq!(to.len(), from.len(), "one is copied into the other");
    let (head, to) = to.split_at_mut(to.as_ptr().align_offset(LINE).min(to.len()));
    let (first, from) = from.split_at(head.len());
    head.copy_from_slice(first);
    let (mut lines, mut contents) = (to.chunks_exact_mut(LINE), from.chunks_exact(LINE));
    for (line, content) in (&mut lines).zip(&mut contents) {
        let (line, content) = (line.as_mut_ptr().cast::<__m128i>(), content.as_ptr().cast::<__m128i>());
        for quarter in 0..LINE / size_of::<__m128i>() {
            #[allow(unsafe_code)]
            // SAFETY: both have a line's length, the one that is written begins at a multiple of it, and every x86-64
            // has these instructions.
            unsafe {
                _mm_stream_si128(line.add(quarter), _mm_loadu_si128(content.add(quarter)));
            }
        }
    }
    lines.into_remainder().copy_from_slice(contents.remainder());
    #[allow(unsafe_code)]
    // SAFETY: as above. What was written past the caches is in memory before anything that is written later.
    unsafe {
        _mm_sfence();
    }
}

/// Copies one slice into another, which is as long.
///
/// # Panics
/// If it is not.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn copy_past_cache(to: &mut [u8], from: &[u8]) {
    to.copy_from_slice(from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_copied_and_none_beside_them_wherever_it_begins_and_ends() {
        let from: Vec<u8> = (0..1_000_u32).map(|at| (at * 31 + at / 251) as u8).collect();
        for start in 0..70 {
            for length in (0..200).chain([511, 512, 513, 900]) {
                let mut to = vec![0; 1_000];
                copy_past_cache(&mut to[start..start + length], &from[start / 3..start / 3 + length]);
                assert_eq!(to[start..start + length], from[start / 3..start / 3 + length]);
                assert!(to[..start].iter().chain(&to[start + length..]).all(|&byte| byte == 0));
            }
        }
    }

    #[test]
    #[should_panic(expected = "one is copied into the other")]
    fn slices_of_different_lengths_are_not_copied() {
        copy_past_cache(&mut [0; 3], &[0; 4]);
    }
}
