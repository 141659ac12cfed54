//! The content of a simulated disk: sparse pages that images share until one of them writes. Lists of neighbouring pages
//! are shared in the same way, so that a copy of an image costs little.
//!
//! Invariants: pages are never removed, so an image that was copied from another one and then changed has at least the
//! pages of that one. Pages are visited in the order of their addresses, so the same calls always give the same bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::super::ranges::ByteRanges;

pub(super) const PAGE_BYTES: u64 = 4096;
/// What a disk writes as a unit.
pub(super) const SECTOR_BYTES: u64 = 512;
/// What a discarded range reads as.
const DISCARDED: u8 = 0xDD;

/// Pages of a list.
const LIST_PAGES: u64 = 64;

type Page = Arc<[u8; PAGE_BYTES as usize]>;

/// Neighbouring pages, as far as they were written.
#[derive(Clone, Debug)]
struct PageList([Option<Page>; LIST_PAGES as usize]);

impl Default for PageList {
    fn default() -> PageList {
        PageList([const { None }; LIST_PAGES as usize])
    }
}

/// In which list a page is, and where in it.
fn place(number: u64) -> (u64, usize) {
    (number / LIST_PAGES, (number % LIST_PAGES) as usize)
}

/// A call that changed the disk and may not have reached it.
#[derive(Clone, Debug)]
pub(super) enum Unsynced {
    Write { offset: u64, data: Arc<[u8]> },
    Discard { offset: u64, len: u64 },
    Back { offset: u64, len: u64 },
}

impl Unsynced {
    fn range(&self) -> Range<u64> {
        match self {
            Unsynced::Write { offset, data } => *offset..offset + data.len() as u64,
            Unsynced::Discard { offset, len } | Unsynced::Back { offset, len } => *offset..offset + len,
        }
    }

    /// Numbers of the sectors that the change reaches.
    pub fn sectors(&self) -> Range<u64> {
        let range = self.range();
        range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES)
    }
}

/// Bytes of a disk, and which of them its host has backed.
#[derive(Clone, Debug)]
pub(super) struct Image {
    lists: BTreeMap<u64, Arc<PageList>>,
    pub backed: ByteRanges,
    /// What a page that was never written reads as.
    fresh: u8,
}

impl Image {
    pub fn new(fresh: u8) -> Image {
        Image { lists: BTreeMap::new(), backed: ByteRanges::default(), fresh }
    }

    pub fn read(&self, offset: u64, buf: &mut [u8]) {
        for (page, within, part) in pieces(offset, buf.len() as u64) {
            let target = &mut buf[part];
            match self.page(page) {
                Some(bytes) => target.copy_from_slice(&bytes[within]),
                None => target.fill(self.fresh),
            }
        }
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        for (page, within, part) in pieces(offset, data.len() as u64) {
            self.page_mut(page, &within)[within].copy_from_slice(&data[part]);
        }
    }

    pub fn fill(&mut self, offset: u64, len: u64, byte: u8) {
        for (page, within, _) in pieces(offset, len) {
            self.page_mut(page, &within)[within].fill(byte);
        }
    }

    /// Carries out all of `change`.
    pub fn apply(&mut self, change: &Unsynced) {
        let range = change.range();
        match change {
            Unsynced::Write { offset, data } => {
                self.backed.insert(blocks_out(&range).start, blocks_out(&range).end);
                self.write(*offset, data);
            }
            Unsynced::Discard { offset, len } => {
                let whole = blocks_in(&range);
                self.backed.remove(whole.start, whole.end);
                self.spoil(*offset, *len);
            }
            Unsynced::Back { .. } => self.backed.insert(blocks_out(&range).start, blocks_out(&range).end),
        }
    }

    /// Carries out the part of `change` that falls into some of its sectors. Backing has no parts and counts as done.
    pub fn apply_part(&mut self, change: &Unsynced, sectors: Range<u64>) {
        let range = change.range();
        let start = range.start.max(sectors.start * SECTOR_BYTES);
        let end = range.end.min(sectors.end * SECTOR_BYTES);
        if start >= end {
            return;
        }
        match change {
            Unsynced::Write { offset, data } => {
                self.backed.insert(blocks_out(&range).start, blocks_out(&range).end);
                self.write(start, &data[(start - offset) as usize..(end - offset) as usize]);
            }
            // Content may be gone while its space is still held: only whole discards give space back.
            Unsynced::Discard { .. } => self.spoil(start, end - start),
            Unsynced::Back { .. } => self.apply(change),
        }
    }

    /// Takes over from `newer` what `change` reached.
    pub fn adopt(&mut self, newer: &Image, change: &Unsynced) {
        let range = change.range();
        if matches!(change, Unsynced::Back { .. }) || range.is_empty() {
            return;
        }
        for (number, page) in newer.pages(range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES)) {
            *self.slot(number) = Some(page.clone());
        }
    }

    fn page(&self, number: u64) -> Option<&Page> {
        let (list, at) = place(number);
        self.lists.get(&list)?.0[at].as_ref()
    }

    /// Those pages of a range that were written.
    fn pages(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Page)> {
        let lists = self.lists.range(range.start / LIST_PAGES..range.end.div_ceil(LIST_PAGES));
        let pages = lists.flat_map(|(list, pages)| (list * LIST_PAGES..).zip(&pages.0));
        pages.filter_map(move |(number, page)| {
            Some((number, page.as_ref()?)).filter(|_| range.contains(&number))
        })
    }

    /// Where a page is kept.
    fn slot(&mut self, number: u64) -> &mut Option<Page> {
        let (list, at) = place(number);
        &mut Arc::make_mut(self.lists.entry(list).or_default()).0[at]
    }

    /// Overwrites what is held of the range; pages that were never written stay so.
    fn spoil(&mut self, offset: u64, len: u64) {
        let end = offset + len;
        let pages = self.pages(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES));
        let held: Vec<u64> = pages.map(|(number, _)| number).collect();
        for number in held {
            let start = offset.max(number * PAGE_BYTES);
            let stop = end.min((number + 1) * PAGE_BYTES);
            self.fill(start, stop - start, DISCARDED);
        }
    }

    fn page_mut(&mut self, number: u64, within: &Range<usize>) -> &mut [u8; PAGE_BYTES as usize] {
        let fresh = self.fresh;
        let page = self.slot(number).get_or_insert_with(|| Arc::new([fresh; PAGE_BYTES as usize]));
        if within.len() == PAGE_BYTES as usize && Arc::get_mut(page).is_none() {
            // All of it is overwritten: no use in copying what other images hold.
            *page = Arc::new([0; PAGE_BYTES as usize]);
        }
        Arc::make_mut(page)
    }
}

/// The smallest run of blocks around `range`.
pub(super) fn blocks_out(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES * PAGE_BYTES..range.end.next_multiple_of(PAGE_BYTES)
}

/// The largest run of blocks inside `range`, empty if there is none.
fn blocks_in(range: &Range<u64>) -> Range<u64> {
    let start = range.start.next_multiple_of(PAGE_BYTES);
    start..(range.end / PAGE_BYTES * PAGE_BYTES).max(start)
}

/// Page number, range within the page, and range within the caller's buffer.
fn pieces(offset: u64, len: u64) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done;
        let start = at % PAGE_BYTES;
        let piece = (PAGE_BYTES - start).min(len - done);
        let part = done as usize..(done + piece) as usize;
        done += piece;
        (piece > 0).then_some((at / PAGE_BYTES, start as usize..(start + piece) as usize, part))
    })
}
