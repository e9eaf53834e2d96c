//! Directions of imports: the table, and what a file imports.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::check::{Finding, Source, is_test_only};

/// Modules from the ground up: each may import those before it.
pub const ORDER: [&str; 18] = [
    "ids",
    "clock",
    "limits",
    "metrics",
    "config",
    "contacts",
    "segments",
    "content",
    "flow",
    "campaigns",
    "ledger",
    "journal",
    "channels",
    "actors",
    "engine",
    "api",
    "cli",
    "main",
];

/// Modules that may import less than their place would allow: the whole list of what they may.
pub const NARROW: [(&str, &[&str]); 5] = [
    ("ids", &[]),
    ("clock", &[]),
    ("limits", &[]),
    // Bytes only: the journal knows frames, not facts.
    ("journal", &["ids", "clock", "limits", "metrics"]),
    // Content is built without knowing who sends it.
    ("content", &["ids", "clock", "limits", "metrics", "config", "contacts"]),
];

/// A path that begins at the root of the crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub line: usize,
    pub path: Vec<String>,
}

/// Breaches of the table in these files.
pub fn all(sources: &[Source]) -> Vec<Finding> {
    let actors: BTreeSet<String> =
        sources.iter().filter(|s| s.name.starts_with("src/actors/") && is_actor(s)).map(|s| s.name.clone()).collect();
    sources.iter().filter(|s| s.name != "src/lib.rs").flat_map(|s| one(s, &actors)).collect()
}

fn one(source: &Source, actors: &BTreeSet<String>) -> Vec<Finding> {
    let Some(own) = module_path(&source.name).first().cloned() else {
        return Vec::new();
    };
    let Some(place) = ORDER.iter().position(|m| *m == own) else {
        let text = format!("module {own} has no place in the table: add it to ORDER");
        return vec![source.finding(1, "import", text)];
    };
    let mut findings = Vec::new();
    for import in imports(source) {
        let Some(target) = import.path.first() else { continue };
        let known = ORDER.iter().position(|m| m == target);
        let narrow = NARROW.iter().find(|(m, _)| *m == own).map(|(_, allowed)| *allowed);
        let allowed = match (known, narrow) {
            // A macro or a re-export at the root: the target is not a module.
            (None, _) => true,
            (Some(at), _) if at == place => true,
            (Some(_), Some(list)) => list.contains(&target.as_str()),
            (Some(at), None) => at < place,
        };
        if !allowed {
            let text = format!("{own} imports {}, which stands above it or is not for it", import.path.join("::"));
            findings.push(source.finding(import.line, "import", text));
        }
        if let Some(finding) = between_actors(source, &import, actors) {
            findings.push(finding);
        }
    }
    findings
}

/// No actor imports another: it gets its neighbours' addresses when it is made.
fn between_actors(source: &Source, import: &Import, actors: &BTreeSet<String>) -> Option<Finding> {
    let [folder, module, ..] = import.path.as_slice() else {
        return None;
    };
    if folder != "actors" || !actors.contains(&source.name) {
        return None;
    }
    let files = [format!("src/actors/{module}.rs"), format!("src/actors/{module}/mod.rs")];
    let other = files.iter().find(|f| actors.contains(*f) && **f != source.name)?;
    Some(source.finding(import.line, "import", format!("an actor imports the actor of {other}")))
}

fn is_actor(source: &Source) -> bool {
    source.tree.items.iter().any(|item| match item {
        syn::Item::Impl(block) => {
            block.trait_.as_ref().is_some_and(|(_, path, _)| path.segments.last().is_some_and(|s| s.ident == "Actor"))
        }
        _ => false,
    })
}

/// `src/a/b.rs` is `a::b`, `src/a/mod.rs` is `a`.
pub fn module_path(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    inner.split('/').map(str::to_owned).collect()
}

/// Every path of the file that leads through the root: `use`, written out, or inside a macro call; tests left out.
pub fn imports(source: &Source) -> Vec<Import> {
    let mut visitor = Imports { module: module_path(&source.name), found: Vec::new() };
    visitor.visit_file(&source.tree);
    visitor.found
}

struct Imports {
    module: Vec<String>,
    found: Vec<Import>,
}

impl Imports {
    /// Turns `crate::a::b`, `super::b` and `self::b` into a path from the root; `None` for everything else.
    fn rooted(&self, path: &[String]) -> Option<Vec<String>> {
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([self.module.as_slice(), &path[1..]].concat()),
            "super" => {
                let ups = path.iter().take_while(|p| *p == "super").count();
                let kept = self.module.len().saturating_sub(ups);
                Some([&self.module[..kept], &path[ups..]].concat())
            }
            _ => None,
        }
    }

    fn add(&mut self, line: usize, path: &[String]) {
        if let Some(path) = self.rooted(path) {
            self.found.push(Import { line, path });
        }
    }

    fn walk(&mut self, line: usize, prefix: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.walk(line, prefix, &path.tree);
                prefix.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.walk(line, prefix, tree)),
            syn::UseTree::Name(name) => self.leaf(line, prefix, name.ident.to_string()),
            syn::UseTree::Rename(rename) => self.leaf(line, prefix, rename.ident.to_string()),
            syn::UseTree::Glob(_) => self.add(line, prefix),
        }
    }

    fn leaf(&mut self, line: usize, prefix: &mut Vec<String>, name: String) {
        prefix.push(name);
        self.add(line, prefix);
        prefix.pop();
    }

    /// Paths in a macro's tokens: `crate :: a :: b`.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if let TokenTree::Group(group) = &tokens[at] {
                self.tokens(group.stream());
            }
            let (path, used) = path_at(&tokens[at..]);
            if path.len() > 1 {
                self.add(tokens[at].span().start().line, &path);
            }
            at += used.max(1);
        }
    }
}

/// The longest `a :: b :: c` at the start, and how many tokens it took.
fn path_at(tokens: &[TokenTree]) -> (Vec<String>, usize) {
    let (mut path, mut at) = (Vec::new(), 0);
    while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
        path.push(ident.to_string());
        at += 1;
        let colon = |i: usize| matches!(tokens.get(i), Some(TokenTree::Punct(p)) if p.as_char() == ':');
        if !(colon(at) && colon(at + 1)) {
            break;
        }
        at += 2;
    }
    (path, at)
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if is_test_only(&module.attrs) {
            return;
        }
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test_only(&item.attrs) {
            let line = syn::spanned::Spanned::span(item).start().line;
            self.walk(line, &mut Vec::new(), &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if names.len() > 1 {
            self.add(syn::spanned::Spanned::span(path).start().line, &names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}
