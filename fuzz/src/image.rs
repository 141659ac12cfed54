//! The body of the target `image`: a whole store with a log, changed at places that the input names, with all checksums
//! made right again; then everything is done with it that can be done.

#[path = "../../tests/common/fixtures.rs"]
pub mod fixtures;
#[allow(dead_code, reason = "shared with the test program `damage`")]
#[path = "../../tests/damage/observe.rs"]
mod observe;
#[allow(dead_code, reason = "shared with the test program `damage`")]
#[path = "../../tests/damage/resealed.rs"]
mod resealed;
#[allow(dead_code, reason = "shared with the test program `damage`")]
#[path = "../../tests/damage/sample.rs"]
mod sample;

use std::sync::OnceLock;

use resealed::{Image, change_superblock, exercise};
use sample::Sample;

/// Bytes of one change: which structure, where in it, how many bytes, the bytes.
pub const EDIT_BYTES: usize = 13;
/// Changes in one image at most.
const EDITS_MAX: usize = 8;

/// Changes an image and uses it.
pub fn image(bytes: &[u8]) {
    static SOUND: OnceLock<Image> = OnceLock::new();
    let sound = SOUND.get_or_init(|| Image::new(&Sample::with_log()));
    let mut image = sound.copy();
    let addrs: Vec<u64> = image.blocks.keys().copied().collect();
    for edit in bytes.chunks_exact(EDIT_BYTES).take(EDITS_MAX) {
        let which = usize::from(u16::from_le_bytes([edit[0], edit[1]]));
        let at = usize::from(u16::from_le_bytes([edit[2], edit[3]]));
        let width = usize::from(edit[4] % 8) + 1;
        let value = &edit[5..5 + width];
        match which % (addrs.len() + image.records.len() + 1) {
            0 => {
                let mut word = [0; 8];
                word[..width].copy_from_slice(value);
                change_superblock(&mut image.superblock, edit[4], u64::from_le_bytes(word));
            }
            n if n <= image.records.len() => {
                let effects = &mut image.records[n - 1].2;
                if effects.len() >= width {
                    let at = at % (effects.len() - width + 1);
                    effects[at..at + width].copy_from_slice(value);
                }
            }
            n => {
                let addr = addrs[n - 1 - image.records.len()];
                let block = image.blocks.get_mut(&addr).expect("a block");
                let at = 13 + at % (block.len() - width - 12);
                block[at..at + width].copy_from_slice(value);
                image.reseal(addr);
            }
        }
    }
    exercise(&image.device());
}
