//! What is done under a lease: keys and values are made, moved into the device, changed there, held, read back and
//! checked.
//!
//! Every word that goes in depends on the request and on its place, and every word that comes out is compared with what
//! it must have become. So a lost copy, a copy to the wrong place, and two requests in one block all show.

use bursar::memory::{SimulatedDevice, Space, SpaceError};
use thiserror::Error;
use tokio::time::Instant;

use crate::sizing::{WORD, Work};

/// Odd, so that multiples of it differ in 64 bits: 2⁶⁴ divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
/// What the device changes words with.
const KEY: u64 = 0x5DEE_CE66_D1CE_4E5B;

const WORD_BYTES: usize = WORD as usize;

/// Why the work under a lease failed.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum PayloadError {
    #[error("request {number}: the device refused what the lease had granted: {error}")]
    Space { number: usize, error: SpaceError },
    #[error("request {number}: {wrong} of the words read back at byte {offset} are not what was written")]
    Corrupt { number: usize, offset: u64, wrong: usize },
}

/// Does the work of one request. Takes as long as the request holds its lease, or longer if the copies do.
pub async fn serve(device: &SimulatedDevice, work: &Work) -> Result<(), PayloadError> {
    let end = Instant::now() + work.job.hold;
    let refused = |error| PayloadError::Space { number: work.job.number, error };
    let block = device.allocate(work.moved).await.map_err(refused)?;
    let mut staging = vec![0; work.staging as usize];
    for offset in offsets(work) {
        let part = part(&mut staging, work, offset);
        fill(part, work.job.number, offset);
        device.write(work.stream(), block, offset, part).await.map_err(refused)?;
    }
    device.launch(work.stream(), block, |_, piece| change(piece)).await.map_err(refused)?;
    tokio::time::sleep_until(end).await;
    for offset in offsets(work) {
        let part = part(&mut staging, work, offset);
        device.read(work.stream(), block, offset, part).await.map_err(refused)?;
        let wrong = wrong_words(part, work.job.number, offset);
        if wrong > 0 {
            return Err(PayloadError::Corrupt { number: work.job.number, offset, wrong });
        }
    }
    device.free(block).await.map_err(refused)
}

/// Where the parts begin that are copied one after the other.
fn offsets(work: &Work) -> impl Iterator<Item = u64> + use<> {
    (0..work.moved).step_by(work.staging.max(1) as usize)
}

/// As much of the staging memory as the part at `offset` takes; the last part may be shorter.
fn part<'a>(staging: &'a mut [u8], work: &Work, offset: u64) -> &'a mut [u8] {
    let length = (work.moved - offset).min(work.staging);
    &mut staging[..length as usize]
}

/// The word of a request at a place before the device has changed it.
fn word(number: usize, place: u64) -> u64 {
    (number as u64).rotate_left(32).wrapping_add(place.wrapping_mul(STEP))
}

/// What the device makes of a word.
fn changed(word: u64) -> u64 {
    word.rotate_left(17) ^ KEY
}

fn fill(part: &mut [u8], number: usize, offset: u64) {
    let first = offset / WORD;
    for (at, bytes) in part.as_chunks_mut::<WORD_BYTES>().0.iter_mut().enumerate() {
        *bytes = word(number, first + at as u64).to_le_bytes();
    }
}

fn change(piece: &mut [u8]) {
    for bytes in piece.as_chunks_mut::<WORD_BYTES>().0 {
        *bytes = changed(u64::from_le_bytes(*bytes)).to_le_bytes();
    }
}

fn wrong_words(part: &[u8], number: usize, offset: u64) -> usize {
    let first = offset / WORD;
    let words = part.as_chunks::<WORD_BYTES>().0.iter().enumerate();
    words.filter(|(at, bytes)| u64::from_le_bytes(**bytes) != changed(word(number, first + *at as u64))).count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bursar::{MIB, Request, SpaceId, Tier};

    use super::*;
    use crate::sizing::STAGING;
    use crate::workload::Job;

    fn device(capacity: u64) -> SimulatedDevice {
        SimulatedDevice::new(SpaceId { tier: Tier::Gpu, index: 0 }, capacity)
    }

    fn work(number: usize, moved: u64) -> Work {
        let (at, hold) = (Duration::ZERO, Duration::from_secs(5));
        let job = Job { number, module: 0, at, deadline: None, hold, tokens: 1 };
        Work { job, request: Request::new(), moved, staging: moved.min(STAGING) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_of_several_parts_is_served_in_the_time_it_holds_its_lease() {
        let device = device(4 * MIB);
        let start = Instant::now();
        serve(&device, &work(9, 2 * MIB + 24)).await.unwrap();
        let took = start.elapsed();
        assert!((Duration::from_secs(5)..Duration::from_millis(5_100)).contains(&took), "{took:?}");
        assert_eq!(device.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_bit_that_is_wrong_is_found() {
        let device = device(4 * MIB);
        let work = work(9, 2 * MIB + 24);
        let serving = serve(&device, &work);
        // The id of the first block of a device is known: that of another device, filled alike.
        let damage = async {
            let twin = self::device(4 * MIB);
            let block = twin.allocate(work.moved).await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            let flip = |offset: u64, piece: &mut [u8]| {
                if offset == MIB {
                    piece[17] ^= 1;
                }
            };
            device.launch(work.stream(), block, flip).await.unwrap();
        };
        let (served, ()) = tokio::join!(serving, damage);
        assert_eq!(served, Err(PayloadError::Corrupt { number: 9, offset: MIB, wrong: 1 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_has_less_than_was_granted_is_an_error() {
        let served = serve(&device(MIB), &work(3, 2 * MIB)).await;
        assert!(matches!(served, Err(PayloadError::Space { number: 3, .. })), "{served:?}");
    }

    #[test]
    fn words_of_another_request_or_another_place_are_wrong() {
        let mut part = vec![0; 4_096];
        fill(&mut part, 5, 8_192);
        assert!(wrong_words(&part, 5, 8_192) > 500, "the device has not changed it yet");
        change(&mut part);
        assert_eq!(wrong_words(&part, 5, 8_192), 0);
        assert_eq!(wrong_words(&part, 6, 8_192), 512);
        assert_eq!(wrong_words(&part, 5, 8_200), 512);
    }
}
