//! Which rows of a delivery a limit class means. Owns no state.

use roaring::RoaringBitmap;

/// Which rows a grant is for. Classes are disjoint.
#[derive(Clone, Copy, Debug)]
pub enum ClassFilter<'a> {
    Any,
    Only(&'a RoaringBitmap),
    NoneOf(&'a [RoaringBitmap]),
}

impl ClassFilter<'_> {
    pub(super) fn admits(&self, row: u32) -> bool {
        match self {
            ClassFilter::Any => true,
            ClassFilter::Only(class) => class.contains(row),
            ClassFilter::NoneOf(classes) => classes.iter().all(|class| !class.contains(row)),
        }
    }
}
