//! Decides what becomes of each link of a message, and keeps the campaign's table of destinations.
//!
//! The state owned here is that table while a message is compiled. Invariants: LR-1 the position of a link in the table is its
//! index; LR-2 a link that is not tracked is listed with the reason, or is a problem.

use crate::content::html_text;
use crate::content::links::{self, Classified, FoundLink, LinkKind, TrackedLink, UntrackedLink};
use crate::content::pieces::{BuiltIn, Lone, Piece, PieceKind, Pieces};
use crate::content::problem::{Problems, line_and_column};
use crate::content::program::{Edit, EditKind, PLAIN_LINK, PartKind};
use crate::content::source::Track;
use crate::limits;

#[derive(Debug)]
pub(super) struct Linker {
    track: Track,
    pub links: Vec<TrackedLink>,
    pub untracked: Vec<UntrackedLink>,
}

/// A link in its template.
struct Link<'a> {
    found: &'a FoundLink,
    field: &'a str,
    template: &'a str,
    /// The pieces that it covers.
    pieces: Vec<&'a Piece>,
    /// The address as a reader's program sees it: entities undone.
    url: String,
}

impl Link<'_> {
    fn place(&self) -> (&str, &str, usize) {
        (self.field, self.template, self.found.range.start)
    }

    fn written(&self) -> &str {
        &self.template[self.found.range.clone()]
    }

    /// The link is one of our own addresses, which need no redirect.
    fn is_own(&self) -> bool {
        let own = [BuiltIn::UnsubscribeUrl, BuiltIn::ViewUrl].map(|b| PieceKind::Print(Some(Lone::BuiltIn(b))));
        matches!(self.pieces.as_slice(), [piece] if own.contains(&piece.kind))
    }

    /// Blocks that begin in the link end in it.
    fn is_balanced(&self) -> bool {
        let outside = |p: &Piece| {
            if p.kind == PieceKind::Block { p.depth.saturating_sub(1) } else { p.depth }
        };
        let base = self.pieces.first().map_or(0, |p| p.depth);
        self.pieces.iter().all(|p| p.depth >= base)
            && self.pieces.iter().filter(|p| p.kind == PieceKind::Block).all(|p| p.depth > base)
            && self.pieces.last().is_none_or(|p| outside(p) == base)
    }
}

impl Linker {
    pub fn new(track: Track) -> Linker {
        Linker { track, links: Vec::new(), untracked: Vec::new() }
    }

    /// What to change in a body's template.
    pub fn edits(
        &mut self,
        kind: PartKind,
        (field, template): (&str, &str),
        pieces: &Pieces,
        problems: &mut Problems,
    ) -> Vec<Edit> {
        let mask = links::mask(template, pieces);
        let found = match kind {
            PartKind::Html => links::find_in_html(&mask),
            _ => links::find_in_text(&mask),
        };
        let mut edits = Vec::new();
        // Links are in source order: pieces before this one concern none of those that follow.
        let mut first = 0;
        for found in &found {
            let range = &found.range;
            first += pieces.pieces[first..].iter().take_while(|p| p.range.end <= range.start).count();
            let inside = pieces.pieces[first..].iter().take_while(|p| p.range.start < range.end).collect();
            let written = &template[range.clone()];
            let url = if kind == PartKind::Html { html_text::unescape(written) } else { written.to_owned() };
            let link = Link { found, field, template, pieces: inside, url };
            let edit = self.edit(&link, &mask[range.clone()], problems);
            edits.extend(edit.map(|kind| Edit { range: range.clone(), kind }));
        }
        edits
    }

    fn edit(&mut self, link: &Link<'_>, mask: &[u8], problems: &mut Problems) -> Option<EditKind> {
        if link.is_own() {
            return None;
        }
        let classified = links::classify(&link.url, mask);
        if let Classified::Other(reason) = classified {
            return self.leave(link, reason);
        }
        let length = link.written().len();
        if length > limits::URL_BYTES_MAX {
            let message = format!("the URL has {length} bytes; {} are allowed", limits::URL_BYTES_MAX);
            problems.at("url_too_long", link.place(), message, "shorten it");
            return None;
        }
        if link.found.goes_on {
            return self.leave(link, "a block tag follows directly; put a space or line end between");
        }
        if link.pieces.iter().any(|p| p.captured) {
            return self.leave(link, "inside captured output (set block, filter, macro, call)");
        }
        let off = match (link.found.switched_off, self.track) {
            (true, _) => Some("data-track is off"),
            (_, Track::Off) => Some("tracking is off"),
            _ => None,
        };
        match (classified, off) {
            (Classified::Expression { .. }, _) if !link.is_balanced() => {
                let help = "open and close the block inside the address, or around the whole link";
                problems.at("link_across_blocks", link.place(), "a block begins inside a link and ends outside", help);
                None
            }
            (Classified::Expression { .. }, Some(reason)) => {
                self.leave(link, reason);
                Some(EditKind::Expression(PLAIN_LINK))
            }
            (_, Some(reason)) => self.leave(link, reason),
            (Classified::Static { scheme, host, .. }, None) => {
                self.add(link, LinkKind::Static, scheme, host, problems).map(EditKind::Static)
            }
            (Classified::Expression { scheme, host }, None) => {
                self.add(link, LinkKind::Expression, scheme, host, problems).map(EditKind::Expression)
            }
            (Classified::DynamicHost | Classified::Other(_), None) => {
                let help = "write scheme and host as they are and keep expressions to the path or query, or add data-track=\"off\"";
                problems.at(
                    "dynamic_host",
                    link.place(),
                    "an expression decides the scheme or host of a tracked link",
                    help,
                );
                None
            }
        }
    }

    fn leave(&mut self, link: &Link<'_>, reason: &'static str) -> Option<EditKind> {
        let (line, _) = line_and_column(link.template, link.found.range.start);
        if self.untracked.len() < limits::LINKS_MAX {
            let url = link.written().to_owned();
            self.untracked.push(UntrackedLink { field: link.field.to_owned(), line, url, reason });
        }
        None
    }

    /// The index of a link in the table; links to the same address share one.
    fn add(
        &mut self,
        link: &Link<'_>,
        kind: LinkKind,
        scheme: String,
        host: String,
        problems: &mut Problems,
    ) -> Option<u16> {
        let hidden = link.found.hidden;
        if let Some(known) = self.links.iter().find(|l| l.kind == kind && l.url == link.url && l.hidden == hidden) {
            return Some(known.index);
        }
        let index = u16::try_from(self.links.len()).ok().filter(|i| usize::from(*i) < limits::LINKS_MAX);
        let Some(index) = index else {
            let message = format!("the message has more than {} tracked links", limits::LINKS_MAX);
            problems.at("too_many_links", link.place(), message, "remove some, or mark them data-track=\"off\"");
            return None;
        };
        self.links.push(TrackedLink { index, url: link.url.clone(), scheme, host, kind, hidden });
        Some(index)
    }
}
