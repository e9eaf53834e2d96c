//! Rules that hold for one file each.

use std::fmt;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Lines of a file without its tests.
pub const FILE_LINES_MAX: usize = 500;
/// Lines of a function, from its signature to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;
/// The files that may hold `unsafe`, each with its argument beside it; a name that ends with `/` is a folder.
pub const UNSAFE_FILES: [&str; 3] = ["src/journal/marks.rs", "src/contacts/store.rs", "src/contacts/store/"];
/// Macros that say that something is not done, or that were for a moment's look.
const LEFTOVER_MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];
/// The same as words, in comments and names; put together here so that this file does not hold them.
const LEFTOVER_WORDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// A broken rule.
#[derive(Debug)]
pub struct Finding {
    pub file: String,
    pub line: usize,
    pub rule: &'static str,
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.text)
    }
}

/// A parsed file.
pub struct Source {
    /// Path from the root, with slashes.
    pub name: String,
    pub text: String,
    pub tree: syn::File,
}

impl Source {
    pub fn parse(name: &str, text: &str) -> Result<Source, syn::Error> {
        Ok(Source { name: name.to_owned(), text: text.to_owned(), tree: syn::parse_file(text)? })
    }

    pub fn finding(&self, line: usize, rule: &'static str, text: String) -> Finding {
        Finding { file: self.name.clone(), line, rule, text }
    }
}

/// All rules but the directions of imports.
pub fn all(sources: &[Source]) -> Vec<Finding> {
    let tests: Vec<String> = sources.iter().flat_map(test_files).collect();
    let held = sources.iter().filter(|s| !tests.contains(&s.name));
    let mut findings = Vec::new();
    for source in held {
        findings.extend(length(source));
        findings.extend(functions(source));
        findings.extend(leftovers(source));
        findings.extend(unsafe_code(source));
        findings.extend(module_doc(source));
    }
    findings
}

pub fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("cfg")
            && matches!(&a.meta, syn::Meta::List(list) if words(list.tokens.clone()).iter().any(|w| w == "test"))
            && !matches!(&a.meta, syn::Meta::List(list) if words(list.tokens.clone()).iter().any(|w| w == "not"))
    })
}

fn words(tokens: TokenStream) -> Vec<String> {
    tokens
        .into_iter()
        .flat_map(|t| match t {
            TokenTree::Group(group) => words(group.stream()),
            TokenTree::Ident(ident) => vec![ident.to_string()],
            _ => Vec::new(),
        })
        .collect()
}

/// Files that a `#[cfg(test)] mod name;` of this file brings in.
fn test_files(source: &Source) -> Vec<String> {
    let folder = source.name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let stem = source.name.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    let below = if ["mod", "lib", "main"].contains(&stem) { folder.to_owned() } else { format!("{folder}/{stem}") };
    let outside = source.tree.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() && is_test_only(&module.attrs) => Some(module),
        _ => None,
    });
    outside
        .flat_map(|module| match path_attribute(&module.attrs) {
            Some(path) => vec![format!("{folder}/{path}")],
            None => vec![format!("{below}/{}.rs", module.ident), format!("{below}/{}/mod.rs", module.ident)],
        })
        .collect()
}

fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find(|a| a.path().is_ident("path")).and_then(|a| match &a.meta {
        syn::Meta::NameValue(pair) => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

fn length(source: &Source) -> Option<Finding> {
    let tests: usize = source
        .tree
        .items
        .iter()
        .filter_map(|item| match item {
            syn::Item::Mod(module) if is_test_only(&module.attrs) => Some(module),
            _ => None,
        })
        .map(|module| module.span().end().line + 1 - module.span().start().line)
        .sum();
    let lines = source.text.lines().count().saturating_sub(tests);
    (lines > FILE_LINES_MAX).then(|| {
        source.finding(1, "length of a file", format!("{lines} lines without tests, at most {FILE_LINES_MAX}"))
    })
}

fn module_doc(source: &Source) -> Option<Finding> {
    let documented =
        source.tree.attrs.iter().any(|a| a.path().is_ident("doc") && matches!(a.style, syn::AttrStyle::Inner(_)));
    (!documented).then(|| source.finding(1, "module documentation", "no //! at the top".to_owned()))
}

struct Functions<'a> {
    source: &'a Source,
    findings: Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, name: &syn::Ident, from: proc_macro2::Span, block: &syn::Block) {
        let (from, to) = (from.start().line, block.span().end().line);
        let lines = to + 1 - from;
        if lines > FUNCTION_LINES_MAX {
            let text = format!("{name} has {lines} lines, at most {FUNCTION_LINES_MAX}");
            self.findings.push(self.source.finding(from, "length of a function", text));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test_only(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig.ident, function.sig.span(), &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig.ident, function.sig.span(), &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig.ident, function.sig.span(), block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

fn functions(source: &Source) -> Vec<Finding> {
    let mut visitor = Functions { source, findings: Vec::new() };
    visitor.visit_file(&source.tree);
    visitor.findings
}

struct Leftovers<'a> {
    source: &'a Source,
    findings: Vec<Finding>,
}

impl<'ast> Visit<'ast> for Leftovers<'_> {
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let name = call.path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default();
        if LEFTOVER_MACROS.contains(&name.as_str()) {
            self.findings.push(self.source.finding(call.span().start().line, "leftover", format!("{name}!")));
        }
        visit::visit_macro(self, call);
    }
}

fn leftovers(source: &Source) -> Vec<Finding> {
    let mut visitor = Leftovers { source, findings: Vec::new() };
    visitor.visit_file(&source.tree);
    for (at, line) in source.text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(word) = words.find(|w| LEFTOVER_WORDS.contains(w)) {
            visitor.findings.push(source.finding(at + 1, "leftover", word.to_owned()));
        }
    }
    visitor.findings
}

struct Unsafe(Vec<usize>);

impl Unsafe {
    fn look(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.look(group.stream()),
                TokenTree::Ident(ident) if ident == "unsafe" => self.0.push(ident.span().start().line),
                _ => {}
            }
        }
    }
}

fn unsafe_code(source: &Source) -> Vec<Finding> {
    if UNSAFE_FILES.iter().any(|f| if f.ends_with('/') { source.name.starts_with(f) } else { source.name == *f }) {
        return Vec::new();
    }
    // Tokens and not the tree: `unsafe` inside a macro call is unsafe code, too. A parsed file always has tokens.
    let mut found = Unsafe(Vec::new());
    found.look(source.text.parse().unwrap_or_default());
    found
        .0
        .into_iter()
        .map(|line| source.finding(line, "unsafe code", "not in a file that may hold it".to_owned()))
        .collect()
}

struct Ignored(Vec<(usize, String)>);

impl<'ast> Visit<'ast> for Ignored {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        for attribute in &function.attrs {
            let switched_off = attribute.path().is_ident("ignore")
                || (attribute.path().is_ident("cfg_attr") && attribute_words(attribute).iter().any(|w| w == "ignore"));
            if switched_off {
                self.0.push((attribute.span().start().line, function.sig.ident.to_string()));
            }
        }
        visit::visit_item_fn(self, function);
    }
}

fn attribute_words(attribute: &syn::Attribute) -> Vec<String> {
    match &attribute.meta {
        syn::Meta::List(list) => words(list.tokens.clone()),
        _ => Vec::new(),
    }
}

/// Tests with `#[ignore]`.
pub fn ignored_tests(source: &Source) -> Vec<Finding> {
    let mut visitor = Ignored(Vec::new());
    visitor.visit_file(&source.tree);
    visitor.0.into_iter().map(|(line, name)| source.finding(line, "test switched off", name)).collect()
}

/// Folders of `src/` that the map does not name.
pub fn unnamed(map: &str, folders: &[String]) -> Vec<Finding> {
    let missing = folders.iter().filter(|folder| !map.contains(&format!("{folder}/")));
    missing
        .map(|folder| Finding {
            file: "ARCHITECTURE.md".to_owned(),
            line: 1,
            rule: "map",
            text: format!("folder src/{folder}/ is not named"),
        })
        .collect()
}
