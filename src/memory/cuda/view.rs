//! A block as cudarc sees it.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, CudaView, CudaViewMut, DeviceRepr};
use thiserror::Error;

use super::block::DeviceBlock;
use super::current::bind;
use super::probe::reason;
use crate::memory::error::SpaceError;
use crate::memory::joint::Joint;
use crate::model::SpaceId;

/// What device memory can be seen as, whatever bytes are in it: integers and floats are here.
///
/// ```
/// use bursar::memory::DeviceElement;
/// use cudarc::driver::DeviceRepr;
///
/// #[repr(C)]
/// #[derive(Clone, Copy)]
/// struct Pair([f32; 2]);
/// // SAFETY: plain figures, of which any bytes are one, without anything between them.
/// unsafe impl DeviceRepr for Pair {}
/// // SAFETY: as above.
/// unsafe impl DeviceElement for Pair {}
/// ```
///
/// # Safety
/// Every sequence of `size_of::<Self>()` bytes is a valid value, and every value is such bytes: there is no padding, no
/// pointer, and no `bool` or other type that not every byte is a value of.
#[allow(unsafe_code)]
pub unsafe trait DeviceElement: DeviceRepr + Copy + Send + Sync + 'static {}

macro_rules! elements {
    ($($element:ty)*) => {$(
        // SAFETY: whatever its bytes are, they are a number.
        #[allow(unsafe_code)]
        unsafe impl DeviceElement for $element {}
    )*};
}

elements!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

/// Why a block cannot be seen as a slice.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The block is not in memory of a CUDA device.
    #[error("{space} is no CUDA device; its blocks are read and written by copies only")]
    NotCuda {
        /// The space it is in.
        space: SpaceId,
    },
    /// The block does not hold a whole number of elements.
    #[error("{length} bytes are no whole number of elements of {element} bytes; allocate a multiple of that")]
    Length {
        /// How many bytes the block has.
        length: u64,
        /// How many an element has.
        element: usize,
    },
    /// The block does not begin where an element may.
    #[error("the block begins at {address:#x}, which is no multiple of {align}; take elements with less alignment")]
    Alignment {
        /// Where the block begins on the device.
        address: u64,
        /// What an element's address has to be a multiple of.
        align: usize,
    },
    /// The block is gone, or the device is.
    #[error(transparent)]
    Space(#[from] SpaceError),
}

/// A block as cudarc sees it, for its copies and kernels: a slice on the block's stream. It borrows the block, which
/// can be freed again when this is dropped; the memory is used again when the stream has passed what was queued.
#[derive(Debug)]
pub struct DeviceView<'a, T: DeviceElement = u8> {
    slice: ManuallyDrop<CudaSlice<T>>,
    stream: Arc<CudaStream>,
    /// Where the borrowed block is one behind an id, its memory stays even if somebody frees that id.
    _keeps: Option<Arc<Joint<DeviceBlock>>>,
    _borrows: PhantomData<&'a mut DeviceBlock>,
}

impl<'a, T: DeviceElement> DeviceView<'a, T> {
    /// The view borrows the block exclusively.
    pub(super) fn borrow(block: &'a mut DeviceBlock) -> Result<Self, ViewError> {
        DeviceView::of(block, None)
    }

    /// The view keeps the memory itself. What it borrows is for the caller to say.
    pub(super) fn keep(block: Arc<Joint<DeviceBlock>>) -> Result<Self, ViewError> {
        DeviceView::of(&block, Some(&block))
    }

    /// A view of a block that is borrowed for `'a`, or kept.
    #[allow(unsafe_code)]
    fn of(block: &DeviceBlock, keeps: Option<&Arc<Joint<DeviceBlock>>>) -> Result<Self, ViewError> {
        let count = elements::<T>(block.address(), block.len())?;
        let stream = Arc::clone(block.cuda_stream());
        let lost = |error| SpaceError::Lost { space: block.space(), reason: reason(error) };
        let _current = bind(stream.context()).map_err(lost)?;
        // cudarc makes two events for a slice, and panics if it cannot.
        stream.context().new_event(None).map_err(lost)?;
        // SAFETY: the block is memory of this context, aligned for so many elements and as long. Whatever is in it are
        // elements. The slice never frees it: it is given up in `drop`, and nobody else gets it by value or by `&mut`.
        let slice = unsafe { stream.upgrade_device_ptr::<T>(block.address(), count) };
        let slice = ManuallyDrop::new(slice);
        Ok(DeviceView { slice, stream, _keeps: keeps.map(Arc::clone), _borrows: PhantomData })
    }

    /// How many elements there are.
    #[allow(clippy::len_without_is_empty, reason = "there is no empty block")]
    pub fn len(&self) -> usize {
        self.slice.len()
    }

    /// The stream to queue work on that uses it: the block's own. cudarc makes others wait for each other.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// All of it, to read.
    pub fn as_view(&self) -> CudaView<'_, T> {
        self.slice.as_view()
    }

    /// All of it, to write.
    pub fn as_view_mut(&mut self) -> CudaViewMut<'_, T> {
        self.slice.as_view_mut()
    }
}

impl<T: DeviceElement> Drop for DeviceView<'_, T> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // Without it cudarc has no more success, and says so on its own.
        let _current = bind(self.stream.context());
        // SAFETY: not used again, as this is `drop`.
        let slice = unsafe { ManuallyDrop::take(&mut self.slice) };
        // Makes the block's stream wait for other streams that the slice was used on, and frees no memory.
        slice.leak();
    }
}

/// How many elements lie in so many bytes from an address on.
fn elements<T>(address: u64, length: u64) -> Result<usize, ViewError> {
    let (element, align) = (size_of::<T>(), align_of::<T>());
    if !address.is_multiple_of(align as u64) {
        return Err(ViewError::Alignment { address, align });
    }
    // `None` for elements of no size. A block lies in the address space of the device, so its length is a `usize`.
    let count = length.checked_div(element as u64).filter(|count| count * element as u64 == length);
    count.and_then(|count| usize::try_from(count).ok()).ok_or(ViewError::Length { length, element })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(512))]
    struct Page;

    #[test]
    fn a_block_is_so_many_elements_as_fill_it_exactly_and_none_if_they_do_not() {
        assert_eq!(elements::<u8>(0x100, 7), Ok(7));
        assert_eq!(elements::<f32>(0x100, 4_096), Ok(1_024));
        assert_eq!(elements::<[f32; 3]>(0x100, 36), Ok(3));
        assert_eq!(elements::<f64>(0x100, 1 << 40), Ok(1 << 37));
        for length in [1, 3, 7, 4_097] {
            assert_eq!(elements::<f32>(0x100, length), Err(ViewError::Length { length, element: 4 }));
        }
        assert_eq!(elements::<()>(0x100, 8), Err(ViewError::Length { length: 8, element: 0 }));
    }

    #[test]
    fn elements_begin_where_they_may() {
        assert_eq!(elements::<u64>(0x104, 8), Err(ViewError::Alignment { address: 0x104, align: 8 }));
        assert_eq!(elements::<u32>(0x104, 8), Ok(2));
        assert_eq!(elements::<Page>(0x100, 512), Err(ViewError::Alignment { address: 0x100, align: 512 }));
        let text = ViewError::Alignment { address: 0x100, align: 512 }.to_string();
        assert!(text.starts_with("the block begins at 0x100, which is no multiple of 512"), "{text}");
    }
}
