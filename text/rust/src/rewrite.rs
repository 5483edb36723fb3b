//! A template's syntax tree with the guards (guards.rs) between its steps: whatever can make a value
//! grow is followed by one, and whatever can go on for long holds one.
//!
//! The tree has a bounded depth (program.rs looked at the tokens first), so that walking down is safe.

use minijinja::machinery::ast::*;
use minijinja::machinery::Span;
use minijinja::Value;

use crate::{guards, pyvalue};

fn guarded<'a>(guard: &'static str, expr: Expr<'a>, span: Span) -> Expr<'a> {
    Expr::Filter(Spanned::new(Filter { name: guard, expr: Some(expr), args: Vec::new() }, span))
}

fn constant<'a>(value: Value, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(Const { value }, span))
}

/// Builtin filters that take their input apart.
const SPREADING: [&str; 14] = [
    "batch", "chain", "groupby", "map", "max", "min", "reject", "rejectattr", "select", "selectattr",
    "slice", "sort", "unique", "zip",
];

/// Tests that look at the kind of a value only.
const CHEAP_TESTS: [&str; 12] = [
    "boolean", "defined", "false", "float", "integer", "iterable", "mapping", "none", "number",
    "sequence", "string", "undefined",
];

pub fn stmt<'a>(old: &Stmt<'a>) -> Stmt<'a> {
    match old {
        Stmt::Template(s) => {
            Stmt::Template(Spanned::new(Template { children: stmts(&s.children) }, s.span()))
        }
        Stmt::EmitExpr(s) => Stmt::EmitExpr(Spanned::new(EmitExpr { expr: expr(&s.expr) }, s.span())),
        Stmt::EmitRaw(s) => Stmt::EmitRaw(Spanned::new(EmitRaw { raw: s.raw }, s.span())),
        Stmt::ForLoop(s) => {
            let node = ForLoop {
                target: target(&s.target),
                iter: expr(&s.iter),
                filter_expr: s.filter_expr.as_ref().map(|e| guarded(guards::TICK, expr(e), e.span())),
                recursive: s.recursive,
                body: ticking(&s.body, s.span()),
                else_body: stmts(&s.else_body),
            };
            Stmt::ForLoop(Spanned::new(node, s.span()))
        }
        Stmt::IfCond(s) => {
            let node = IfCond {
                expr: expr(&s.expr),
                true_body: stmts(&s.true_body),
                false_body: stmts(&s.false_body),
            };
            Stmt::IfCond(Spanned::new(node, s.span()))
        }
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter().map(|(to, from)| (target(to), expr(from))).collect();
            Stmt::WithBlock(Spanned::new(WithBlock { assignments, body: stmts(&s.body) }, s.span()))
        }
        Stmt::Set(s) => {
            let value = expr(&s.expr);
            let value = match s.target {
                Expr::GetAttr(_) => guarded(guards::KEPT, value, s.span()),
                _ => value,
            };
            Stmt::Set(Spanned::new(Set { target: target(&s.target), expr: value }, s.span()))
        }
        Stmt::SetBlock(s) => {
            let node = SetBlock {
                target: target(&s.target),
                filter: s.filter.as_ref().map(expr),
                body: stmts(&s.body),
            };
            Stmt::SetBlock(Spanned::new(node, s.span()))
        }
        other => rare_stmt(other),
    }
}

/// What templates for chats hardly ever hold.
fn rare_stmt<'a>(old: &Stmt<'a>) -> Stmt<'a> {
    match old {
        Stmt::AutoEscape(s) => {
            let node = AutoEscape { enabled: expr(&s.enabled), body: stmts(&s.body) };
            Stmt::AutoEscape(Spanned::new(node, s.span()))
        }
        Stmt::FilterBlock(s) => {
            let node = FilterBlock { filter: expr(&s.filter), body: stmts(&s.body) };
            Stmt::FilterBlock(Spanned::new(node, s.span()))
        }
        Stmt::Block(s) => {
            let node = Block { name: s.name, required: s.required, body: ticking(&s.body, s.span()) };
            Stmt::Block(Spanned::new(node, s.span()))
        }
        Stmt::Import(s) => {
            Stmt::Import(Spanned::new(Import { expr: expr(&s.expr), name: target(&s.name) }, s.span()))
        }
        Stmt::FromImport(s) => {
            let names = s.names.iter().map(|(name, to)| (target(name), to.as_ref().map(target))).collect();
            Stmt::FromImport(Spanned::new(FromImport { expr: expr(&s.expr), names }, s.span()))
        }
        Stmt::Extends(s) => Stmt::Extends(Spanned::new(Extends { name: expr(&s.name) }, s.span())),
        Stmt::Include(s) => {
            let node = Include { name: expr(&s.name), ignore_missing: s.ignore_missing };
            Stmt::Include(Spanned::new(node, s.span()))
        }
        Stmt::Macro(s) => Stmt::Macro(macro_decl(s)),
        Stmt::CallBlock(s) => {
            let node = CallBlock { call: call(&s.call), macro_decl: macro_decl(&s.macro_decl) };
            Stmt::CallBlock(Spanned::new(node, s.span()))
        }
        Stmt::Continue(s) => Stmt::Continue(Spanned::new(Continue, s.span())),
        Stmt::Break(s) => Stmt::Break(Spanned::new(Break, s.span())),
        Stmt::Do(s) => Stmt::Do(Spanned::new(Do { call: call(&s.call) }, s.span())),
        _ => unreachable!("the other statements are in stmt()"),
    }
}

fn stmts<'a>(old: &[Stmt<'a>]) -> Vec<Stmt<'a>> {
    old.iter().map(stmt).collect()
}

/// A body that may run over and over: it begins by looking at the bounds, and prints nothing for it.
fn ticking<'a>(old: &[Stmt<'a>], span: Span) -> Vec<Stmt<'a>> {
    let tick = EmitExpr { expr: guarded(guards::TICK, constant(Value::from(""), span), span) };
    let mut body = vec![Stmt::EmitExpr(Spanned::new(tick, span))];
    body.extend(old.iter().map(stmt));
    body
}

fn macro_decl<'a>(old: &Spanned<Macro<'a>>) -> Spanned<Macro<'a>> {
    let node = Macro {
        name: old.name,
        args: old.args.iter().map(target).collect(),
        defaults: old.defaults.iter().map(expr).collect(),
        body: ticking(&old.body, old.span()),
    };
    Spanned::new(node, old.span())
}

/// What is assigned to: the shape of the tree decides what that means, so it stays as it is.
fn target<'a>(old: &Expr<'a>) -> Expr<'a> {
    match old {
        Expr::List(e) => {
            Expr::List(Spanned::new(List { items: e.items.iter().map(target).collect() }, e.span()))
        }
        Expr::GetAttr(e) => {
            let node = GetAttr { expr: target(&e.expr), name: e.name };
            Expr::GetAttr(Spanned::new(node, e.span()))
        }
        other => expr(other),
    }
}

pub fn expr<'a>(old: &Expr<'a>) -> Expr<'a> {
    match old {
        Expr::Var(e) => Expr::Var(Spanned::new(Var { id: e.id }, e.span())),
        Expr::Const(e) => constant(e.value.clone(), e.span()),
        Expr::Slice(e) => {
            let part = |e: &Option<Expr<'a>>| e.as_ref().map(expr);
            let (start, stop, step) = (part(&e.start), part(&e.stop), part(&e.step));
            let node = Slice { expr: expr(&e.expr), start, stop, step };
            guarded(guards::MADE, Expr::Slice(Spanned::new(node, e.span())), e.span())
        }
        Expr::UnaryOp(e) => {
            let op = match e.op {
                UnaryOpKind::Not => UnaryOpKind::Not,
                UnaryOpKind::Neg => UnaryOpKind::Neg,
            };
            Expr::UnaryOp(Spanned::new(UnaryOp { op, expr: expr(&e.expr) }, e.span()))
        }
        Expr::BinOp(e) => bin_op(e),
        Expr::Compare(e) => {
            let of_constants = e.ops.iter().all(|op| matches!(op.expr, Expr::Const(_)));
            let first = expr(&e.expr);
            let first = if of_constants { first } else { guarded(guards::TICK, first, e.span()) };
            let ops = e.ops.iter().map(|op| CompareOp { op: op.op, expr: expr(&op.expr) }).collect();
            Expr::Compare(Spanned::new(Compare { expr: first, ops }, e.span()))
        }
        Expr::IfExpr(e) => {
            let node = IfExpr {
                test_expr: expr(&e.test_expr),
                true_expr: expr(&e.true_expr),
                false_expr: e.false_expr.as_ref().map(expr),
            };
            Expr::IfExpr(Spanned::new(node, e.span()))
        }
        Expr::Filter(e) => filter(e),
        Expr::Test(e) => {
            let cheap = CHEAP_TESTS.contains(&e.name);
            let tested = expr(&e.expr);
            let tested = if cheap { tested } else { guarded(guards::TICK, tested, e.span()) };
            let node = Test { name: e.name, expr: tested, args: args(&e.args) };
            Expr::Test(Spanned::new(node, e.span()))
        }
        Expr::GetAttr(e) => {
            Expr::GetAttr(Spanned::new(GetAttr { expr: expr(&e.expr), name: e.name }, e.span()))
        }
        Expr::GetItem(e) => {
            let node = GetItem { expr: expr(&e.expr), subscript_expr: expr(&e.subscript_expr) };
            guarded(guards::TICK, Expr::GetItem(Spanned::new(node, e.span())), e.span())
        }
        Expr::Call(e) => guarded(guards::GIVEN, Expr::Call(call(e)), e.span()),
        Expr::List(e) => {
            let node = List { items: e.items.iter().map(expr).collect() };
            literal(Expr::List(Spanned::new(node, e.span())))
        }
        Expr::Map(e) => {
            let node = Map {
                keys: e.keys.iter().map(expr).collect(),
                values: e.values.iter().map(expr).collect(),
            };
            literal(Expr::Map(Spanned::new(node, e.span())))
        }
    }
}

/// A list or dict; of constants alone, it is made once.
fn literal<'a>(made: Expr<'a>) -> Expr<'a> {
    let span = made.span();
    match made.as_const().and_then(|value| pyvalue::held(&value).ok()) {
        Some(value) => constant(value, span),
        None => guarded(guards::MADE, made, span),
    }
}

fn bin_op<'a>(old: &Spanned<BinOp<'a>>) -> Expr<'a> {
    let (left, right, span) = (expr(&old.left), expr(&old.right), old.span());
    if matches!(old.op, BinOpKind::Concat) {
        let args = vec![CallArg::Pos(right)];
        return Expr::Filter(Spanned::new(Filter { name: guards::CONCAT, expr: Some(left), args }, span));
    }
    let goes_on = match old.op {
        // The compiler works out what is constant: not "x" * 99999999, before anybody asked for it.
        BinOpKind::Add | BinOpKind::Mul => left.as_const().is_some(),
        BinOpKind::ScAnd | BinOpKind::ScOr => false,
        _ => !matches!(right, Expr::Const(_)),
    };
    let left = if goes_on { guarded(guards::TICK, left, span) } else { left };
    let whole = Expr::BinOp(Spanned::new(BinOp { op: old.op, left, right }, span));
    match old.op {
        BinOpKind::Add | BinOpKind::Mul => guarded(guards::MADE, whole, span),
        _ => whole,
    }
}

fn filter<'a>(old: &Spanned<Filter<'a>>) -> Expr<'a> {
    let input = old.expr.as_ref().map(expr).map(|input| {
        let spreads = SPREADING.contains(&old.name);
        if spreads { guarded(guards::SPREAD, input, old.span()) } else { input }
    });
    let node = Filter { name: old.name, expr: input, args: args(&old.args) };
    guarded(guards::MADE, Expr::Filter(Spanned::new(node, old.span())), old.span())
}

fn call<'a>(old: &Spanned<Call<'a>>) -> Spanned<Call<'a>> {
    // The shape of what is called tells functions from methods, recursive loops and blocks.
    let callee = match &old.expr {
        Expr::GetAttr(e) => {
            Expr::GetAttr(Spanned::new(GetAttr { expr: expr(&e.expr), name: e.name }, e.span()))
        }
        other => expr(other),
    };
    Spanned::new(Call { expr: callee, args: args(&old.args) }, old.span())
}

fn args<'a>(old: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let spread = |e: &Expr<'a>| guarded(guards::SPREAD, expr(e), e.span());
    old.iter()
        .map(|arg| match arg {
            CallArg::Pos(e) => CallArg::Pos(expr(e)),
            CallArg::Kwarg(name, e) => CallArg::Kwarg(name, expr(e)),
            CallArg::PosSplat(e) => CallArg::PosSplat(spread(e)),
            CallArg::KwargSplat(e) => CallArg::KwargSplat(spread(e)),
        })
        .collect()
}
