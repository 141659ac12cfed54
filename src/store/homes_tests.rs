//! Space that is kept for whoever's content belongs there: it is free, and nobody's.

use super::alloc::Allocator;

const MIB: u64 = 1 << 20;

#[test]
fn what_is_kept_is_in_nobodys_way() {
    let mut alloc = Allocator::new(MIB, 16 * MIB);
    alloc.backed(MIB, 15 * MIB);
    alloc.keep(12 * MIB, 8192);
    assert_eq!(alloc.kept_bytes(), 8192);
    assert!(alloc.in_use().is_empty(), "a copy of the store needs nothing of it");
    assert_eq!(alloc.end_at(8 * MIB), Ok(()));
    assert_eq!((alloc.kept_bytes(), alloc.free_bytes()), (0, 7 * MIB));
    // What is handed out is in the way.
    let mut alloc = Allocator::new(MIB, 16 * MIB);
    alloc.backed(MIB, 15 * MIB);
    assert!(alloc.take(12 * MIB, 4096));
    assert_eq!(alloc.end_at(8 * MIB), Err(12 * MIB + 4096));
}
