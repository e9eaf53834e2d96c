//! Blocks of a template as a small tree of our own: `if`, comparisons, `for` over a list, printed attributes.
//!
//! Of what senders write in blocks most is this, and the template engine pays for its generality: values that are shared and
//! counted, a stack, fuel per instruction. Here the engine's own parser makes the tree once, and a contact costs a walk over
//! it. A region that holds anything else stays in the residual template, whole. Owns no state.
//!
//! Invariants: NT-1 what a region prints, skips or refuses is what the template engine would (the property tests of this folder
//! render both); comparisons are those of the engine's own values; NT-2 a walk ends after [`limits::TEMPLATE_FUEL`] steps;
//! NT-3 a region with an open link, captured output or names that it binds itself is never native.

use minijinja::Value;
use minijinja::machinery::ast::{self, BinOpKind, CompareOpKind, Expr, Stmt, UnaryOpKind};

use crate::contacts::{self, AttributeType, Record, Schema};
use crate::content::pieces;
use crate::content::program::{ID_CHARS, SPAN, marker_id};
use crate::content::render::{RenderSkip, SkipReason, skip};
use crate::content::source::Missing;
use crate::content::{context, env};
use crate::ids::AttributeId;
use crate::limits;

/// One step of a region.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// Static text that was encoded before.
    Span(u16),
    Print(Printed),
    If {
        when: Condition,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    For {
        list: AttributeId,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Printed {
    Attribute(AttributeId),
    /// The attribute, or this text if it is missing or blank: `default`.
    AttributeOr(AttributeId, String),
    /// The entry of the loop so many levels from the outermost.
    Entry(usize),
    Text(String),
}

#[derive(Clone, Debug)]
pub(super) enum Condition {
    True(Operand),
    Compare(Operand, Comparison, Operand),
    Defined(AttributeId),
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds<T: PartialOrd + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::Unequal => left != right,
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Operand {
    Attribute(AttributeId),
    Entry(usize),
    Constant(Value),
    First,
    Last,
    /// From 1.
    Index,
}

/// The tree of a region; `None` leaves it to the template engine.
pub(super) fn compile(region: &str, schema: &Schema, campaign_name: &str) -> Option<Vec<Node>> {
    let parsed = minijinja::machinery::parse(region, "region", pieces::syntax()).ok()?;
    let Stmt::Template(template) = &parsed else { return None };
    let mut compiler = Compiler { schema, campaign_name, entries: Vec::new() };
    compiler.nodes(&template.children)
}

struct Compiler<'a> {
    schema: &'a Schema,
    campaign_name: &'a str,
    /// Names of the loops' entries, the outermost first.
    entries: Vec<String>,
}

/// Names that a loop must not hide.
const TAKEN: [&str; 6] = ["contact", "campaign", "cell", "loop", "unsubscribe_url", "view_url"];

impl Compiler<'_> {
    fn nodes(&mut self, statements: &[Stmt<'_>]) -> Option<Vec<Node>> {
        let mut nodes = Vec::with_capacity(statements.len());
        for statement in statements {
            match statement {
                Stmt::EmitRaw(raw) => spans(raw.raw, &mut nodes)?,
                Stmt::EmitExpr(emit) => nodes.push(Node::Print(self.printed(&emit.expr)?)),
                Stmt::IfCond(block) => nodes.push(Node::If {
                    when: self.condition(&block.expr)?,
                    then: self.nodes(&block.true_body)?,
                    otherwise: self.nodes(&block.false_body)?,
                }),
                Stmt::ForLoop(block) => nodes.push(self.each(block)?),
                _ => return None,
            }
        }
        Some(nodes)
    }

    fn each(&mut self, block: &ast::ForLoop<'_>) -> Option<Node> {
        let (Expr::Var(target), None, false) = (&block.target, &block.filter_expr, block.recursive) else {
            return None;
        };
        let list = self.attribute(&block.iter)?;
        if self.schema.by_id(list)?.kind != AttributeType::List || TAKEN.contains(&target.id) {
            return None;
        }
        self.entries.push(target.id.to_owned());
        let body = self.nodes(&block.body);
        self.entries.pop();
        Some(Node::For { list, body: body?, otherwise: self.nodes(&block.else_body)? })
    }

    fn printed(&self, expr: &Expr<'_>) -> Option<Printed> {
        if let Some(id) = self.attribute(expr) {
            return Some(Printed::Attribute(id));
        }
        match expr {
            Expr::Var(name) => self.entry(name.id).map(Printed::Entry),
            Expr::GetAttr(get) if get.name == "name" && is_name(&get.expr, "campaign") => {
                Some(Printed::Text(self.campaign_name.to_owned()))
            }
            Expr::Filter(filter) if matches!(filter.name, "default" | "d") => {
                let id = self.attribute(filter.expr.as_ref()?)?;
                let text = match filter.args.as_slice() {
                    [] => String::new(),
                    [ast::CallArg::Pos(Expr::Const(text))] => text.value.as_str()?.to_owned(),
                    _ => return None,
                };
                Some(Printed::AttributeOr(id, text))
            }
            _ => None,
        }
    }

    fn condition(&self, expr: &Expr<'_>) -> Option<Condition> {
        match expr {
            Expr::UnaryOp(unary) if matches!(unary.op, UnaryOpKind::Not) => {
                Some(Condition::Not(Box::new(self.condition(&unary.expr)?)))
            }
            Expr::BinOp(binary) => {
                let compared =
                    |op| Some(Condition::Compare(self.operand(&binary.left)?, op, self.operand(&binary.right)?));
                let both = || Some((Box::new(self.condition(&binary.left)?), Box::new(self.condition(&binary.right)?)));
                match binary.op {
                    BinOpKind::ScAnd => both().map(|(a, b)| Condition::And(a, b)),
                    BinOpKind::ScOr => both().map(|(a, b)| Condition::Or(a, b)),
                    BinOpKind::Eq => compared(Comparison::Equal),
                    BinOpKind::Ne => compared(Comparison::Unequal),
                    BinOpKind::Lt => compared(Comparison::Less),
                    BinOpKind::Lte => compared(Comparison::LessOrEqual),
                    BinOpKind::Gt => compared(Comparison::Greater),
                    BinOpKind::Gte => compared(Comparison::GreaterOrEqual),
                    _ => None,
                }
            }
            Expr::Compare(compare) => {
                let [one] = compare.ops.as_slice() else { return None };
                let op = match one.op {
                    CompareOpKind::Eq => Comparison::Equal,
                    CompareOpKind::Ne => Comparison::Unequal,
                    CompareOpKind::Lt => Comparison::Less,
                    CompareOpKind::Lte => Comparison::LessOrEqual,
                    CompareOpKind::Gt => Comparison::Greater,
                    CompareOpKind::Gte => Comparison::GreaterOrEqual,
                    CompareOpKind::In | CompareOpKind::NotIn => return None,
                };
                Some(Condition::Compare(self.operand(&compare.expr)?, op, self.operand(&one.expr)?))
            }
            Expr::Test(test) if test.args.is_empty() => {
                let defined = Condition::Defined(self.attribute(&test.expr)?);
                match test.name {
                    "defined" => Some(defined),
                    "undefined" => Some(Condition::Not(Box::new(defined))),
                    _ => None,
                }
            }
            operand => self.operand(operand).map(Condition::True),
        }
    }

    fn operand(&self, expr: &Expr<'_>) -> Option<Operand> {
        if let Some(id) = self.attribute(expr) {
            return Some(Operand::Attribute(id));
        }
        match expr {
            Expr::Var(name) => self.entry(name.id).map(Operand::Entry),
            Expr::GetAttr(get) if !self.entries.is_empty() && is_name(&get.expr, "loop") => match get.name {
                "first" => Some(Operand::First),
                "last" => Some(Operand::Last),
                "index" => Some(Operand::Index),
                _ => None,
            },
            constant => constant.as_const().map(Operand::Constant),
        }
    }

    /// The attribute of `contact.name` or `contact["name"]`.
    fn attribute(&self, expr: &Expr<'_>) -> Option<AttributeId> {
        let name = match expr {
            Expr::GetAttr(get) if is_name(&get.expr, "contact") => get.name,
            Expr::GetItem(get) if is_name(&get.expr, "contact") => match &get.subscript_expr {
                Expr::Const(name) => return self.schema.by_name(name.value.as_str()?).map(|a| a.id),
                _ => return None,
            },
            _ => return None,
        };
        self.schema.by_name(name).map(|a| a.id)
    }

    fn entry(&self, name: &str) -> Option<usize> {
        self.entries.iter().rposition(|entry| entry == name)
    }
}

fn is_name(expr: &Expr<'_>, name: &str) -> bool {
    matches!(expr, Expr::Var(var) if var.id == name)
}

/// Text of a region is nothing but markers of spans.
fn spans(raw: &str, nodes: &mut Vec<Node>) -> Option<()> {
    let markers = raw.as_bytes().chunks(1 + ID_CHARS);
    for marker in markers {
        let (SPAN, digits @ [_, _, _, _]) = marker.split_first().map(|(kind, digits)| (*kind, digits))? else {
            return None;
        };
        nodes.push(Node::Span(marker_id(digits)));
    }
    Some(())
}

/// One loop under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn<'r> {
    pub entry: &'r str,
    pub index: usize,
    pub is_last: bool,
}

/// What a walk looks at.
pub(super) struct Walk<'r> {
    pub record: &'r Record<'r>,
    pub schema: &'r Schema,
    pub missing: Missing,
    /// Loops under way, the outermost first.
    pub turns: Vec<Turn<'r>>,
    pub steps: u64,
}

impl<'r> Walk<'r> {
    /// Counts a step (NT-2).
    pub fn step(&mut self) -> Result<(), RenderSkip> {
        self.steps += 1;
        if self.steps > limits::TEMPLATE_FUEL {
            return Err(skip(SkipReason::OutOfFuel, "the blocks of the message repeat too often"));
        }
        Ok(())
    }

    /// The entries of a list; none if it is missing and may be.
    pub fn entries(&self, id: AttributeId) -> Result<Vec<&'r str>, RenderSkip> {
        match self.record.get(id) {
            Some(contacts::Value::List(list)) => Ok(list.iter().collect()),
            Some(_) => Err(skip(SkipReason::RenderFailed, format!("{:?} is not a list", self.name(id)))),
            None => self.lacks(id).map(|()| Vec::new()),
        }
    }

    pub fn entry(&self, level: usize) -> &'r str {
        self.turns.get(level).map_or("", |turn| turn.entry)
    }

    /// An error if the message is not for who lacks what it uses.
    pub fn lacks(&self, id: AttributeId) -> Result<(), RenderSkip> {
        if self.missing == Missing::Skip {
            return Err(skip(SkipReason::MissingAttribute, format!("the contact lacks {:?}", self.name(id))));
        }
        Ok(())
    }

    fn name(&self, id: AttributeId) -> &'r str {
        self.schema.by_id(id).map_or("", |a| &a.name)
    }

    pub fn holds(&self, condition: &Condition) -> Result<bool, RenderSkip> {
        Ok(match condition {
            Condition::True(operand) => self.is_true(operand),
            Condition::Compare(left, op, right) => self.compare(left, *op, right)?,
            Condition::Defined(id) => self.record.get(*id).is_some(),
            Condition::Not(inner) => !self.holds(inner)?,
            Condition::And(left, right) => self.holds(left)? && self.holds(right)?,
            Condition::Or(left, right) => self.holds(left)? || self.holds(right)?,
        })
    }

    fn is_true(&self, operand: &Operand) -> bool {
        match operand {
            Operand::Attribute(id) => match self.record.get(*id) {
                None => false,
                Some(contacts::Value::Text(text)) => !text.is_empty(),
                Some(contacts::Value::Number(number)) => number != 0.0,
                Some(contacts::Value::Bool(is)) => is,
                Some(contacts::Value::Time(_)) => true,
                Some(contacts::Value::List(list)) => list.iter().next().is_some(),
            },
            Operand::Entry(level) => !self.entry(*level).is_empty(),
            Operand::Constant(value) => value.is_true(),
            Operand::First | Operand::Last | Operand::Index => self.value(operand).is_true(),
        }
    }

    fn compare(&self, left: &Operand, op: Comparison, right: &Operand) -> Result<bool, RenderSkip> {
        for operand in [left, right] {
            if let Operand::Attribute(id) = operand
                && self.record.get(*id).is_none()
            {
                self.lacks(*id)?;
            }
        }
        if let (Some(left), Some(right)) = (self.text(left), self.text(right)) {
            return Ok(op.holds(left, right));
        }
        Ok(op.holds(&self.value(left), &self.value(right)))
    }

    /// An operand that is text, without a value made for it.
    fn text<'o>(&self, operand: &'o Operand) -> Option<&'o str>
    where
        'r: 'o,
    {
        match operand {
            Operand::Attribute(id) => match self.record.get(*id) {
                Some(contacts::Value::Text(text)) => Some(text),
                _ => None,
            },
            Operand::Entry(level) => Some(self.entry(*level)),
            Operand::Constant(value) => value.as_str(),
            Operand::First | Operand::Last | Operand::Index => None,
        }
    }

    fn value(&self, operand: &Operand) -> Value {
        let turn = self.turns.last();
        match operand {
            Operand::Attribute(id) => self.record.get(*id).map_or(Value::UNDEFINED, context::to_value),
            Operand::Entry(level) => Value::from(self.entry(*level)),
            Operand::Constant(value) => value.clone(),
            Operand::First => Value::from(turn.is_some_and(|turn| turn.index == 0)),
            Operand::Last => Value::from(turn.is_some_and(|turn| turn.is_last)),
            Operand::Index => Value::from(turn.map_or(0, |turn| turn.index + 1)),
        }
    }

    /// Whether `default` replaces the value.
    pub fn is_blank(&self, id: AttributeId) -> bool {
        match self.record.get(id) {
            None => true,
            Some(contacts::Value::Text(text)) => env::is_blank(text),
            Some(_) => false,
        }
    }
}
