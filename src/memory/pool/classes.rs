//! Which sizes there are: four to an octave, so that at most a fifth of a block is not asked for, and often much less.
//! Below a page they are multiples of the grain, from a page on of the page, and so every block of a page or more can
//! begin on a page.

/// The sizes of a pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Classes {
    grain: u64,
    page: u64,
    /// Four times the binary logarithm of the grain: the number of the smallest size, were it counted from one byte on.
    base: u32,
    largest: u64,
}

/// A size that is asked, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rounded {
    pub(super) bytes: u64,
    /// Its class, unless it is too large for one.
    pub(super) class: Option<u8>,
}

impl Classes {
    /// `grain <= page <= largest`, all of them powers of two, and `largest` at most 2^40.
    pub(super) fn new(grain: u64, page: u64, largest: u64) -> Self {
        debug_assert!(grain.is_power_of_two() && page.is_power_of_two() && largest.is_power_of_two());
        debug_assert!(grain <= page && page <= largest && largest <= 1 << 40);
        Classes { grain, page, base: 4 * grain.ilog2(), largest }
    }

    /// How many there are at most; every class is below that.
    pub(super) fn count(&self) -> usize {
        (4 * self.largest.ilog2() - self.base + 1) as usize
    }

    /// What a block begins at a multiple of.
    pub(super) fn alignment(&self, bytes: u64) -> u64 {
        if bytes < self.page { self.grain } else { self.page }
    }

    /// What a request gets. `bytes` is at most 2^62.
    #[inline]
    pub(super) fn round(&self, bytes: u64) -> Rounded {
        let exact = self.exact(bytes);
        if exact > self.largest {
            return Rounded { bytes: exact, class: None };
        }
        let step = 1 << exact.ilog2().saturating_sub(2);
        let bytes = exact.next_multiple_of(step);
        Rounded { bytes, class: Some(self.number(bytes)) }
    }

    /// The least that a request can be served with, class or not.
    #[inline]
    pub(super) fn exact(&self, bytes: u64) -> u64 {
        let bytes = bytes.max(1);
        let unit = if bytes <= self.page - self.grain { self.grain } else { self.page };
        (bytes + unit - 1) & !(unit - 1)
    }

    /// The class of a size, if there is one of just that size.
    pub(super) fn of_exact(&self, bytes: u64) -> Option<u8> {
        let rounded = self.round(bytes);
        if rounded.bytes == bytes { rounded.class } else { None }
    }

    /// `bytes` has no bits below its three highest.
    #[inline]
    fn number(&self, bytes: u64) -> u8 {
        let octave = bytes.ilog2();
        let quarter = (bytes << 2 >> octave) & 3;
        (4 * octave - self.base) as u8 + quarter as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Classes = Classes { grain: 256, page: 256, base: 32, largest: 1 << 26 };
    const HOST: Classes = Classes { grain: 512, page: 4_096, base: 36, largest: 1 << 26 };

    #[test]
    fn every_size_gets_a_class_that_holds_it_and_that_no_other_size_has() {
        for classes in [DEVICE, HOST] {
            let mut sizes = vec![None; classes.count()];
            let steps = (1..70_000).chain((1..64).flat_map(|n| [(n << 20) - 1, n << 20, (n << 20) + 1]));
            for bytes in steps {
                let rounded = classes.round(bytes);
                let class = rounded.class.expect("small enough");
                assert!(rounded.bytes >= bytes && rounded.bytes.is_multiple_of(classes.alignment(rounded.bytes)));
                let size = &mut sizes[usize::from(class)];
                assert_eq!(*size.get_or_insert(rounded.bytes), rounded.bytes, "class {class}, {bytes}");
                assert_eq!(classes.round(rounded.bytes), rounded);
                assert_eq!(classes.of_exact(rounded.bytes), Some(class));
            }
        }
    }

    #[test]
    fn at_most_a_fifth_is_not_asked_for_once_a_block_is_four_pages() {
        for classes in [DEVICE, HOST] {
            for bytes in (4 * classes.page..1 << 20).step_by(13) {
                let rounded = classes.round(bytes).bytes;
                assert!((rounded - bytes) * 5 <= rounded, "{bytes} in {rounded}");
            }
        }
    }

    #[test]
    fn what_is_larger_than_the_largest_class_is_rounded_to_pages() {
        assert_eq!(HOST.round(1 << 26), Rounded { bytes: 1 << 26, class: Some(68) });
        assert_eq!(HOST.count(), 69);
        assert_eq!(HOST.round((1 << 26) + 1), Rounded { bytes: (1 << 26) + 4_096, class: None });
        assert_eq!(HOST.of_exact(5_120), None);
    }
}
