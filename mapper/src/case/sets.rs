//! Tensor sets: which operands of an einsum something is about.
//!
//! ```text
//! set     = union { "-" union }          without
//! union   = meet { "|" meet }            in either
//! meet    = factor { "&" factor }        in both
//! factor  = "~" factor | "(" set ")" | atom
//! atom    = All | Nothing | Inputs | Outputs | Intermediates
//!         | ROLE | TENSOR | EINSUM.TENSOR | MEMORY.tensors
//! ```
//!
//! A set is resolved for each einsum by itself: a tensor that the einsum does not have is in none of its sets.
//! `Intermediates` are the tensors that one einsum of the case makes and another reads. `MEMORY.tensors` are
//! those that a mapping keeps at a memory further out, which only the mapping tells: so a set has two values for
//! each operand, one where that memory keeps it and one where it does not ([`Value`]). A set speaks of one such
//! memory at most.

use std::ops::Range;

use crate::hierarchy::Mask;

/// What is wrong with a set: where in its text, what, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// A remedy.
    pub help: String,
}

/// The value of a set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Value {
    /// Operands in it where the memory that it speaks of keeps them.
    pub if_kept: Mask,
    /// Operands in it where that memory does not.
    pub if_not: Mask,
    /// The memory that it speaks of.
    pub memory: Option<String>,
}

impl Value {
    /// A set that no mapping changes.
    pub fn fixed(mask: Mask) -> Self {
        Self {
            if_kept: mask,
            if_not: mask,
            memory: None,
        }
    }
    /// Operands in it whatever the mapping.
    pub fn always(&self) -> Mask {
        self.if_kept.and(self.if_not)
    }
    /// Operands in it only where the memory does not keep them.
    pub fn unless_kept(&self) -> Mask {
        self.if_not.minus(self.if_kept)
    }
    /// Operands in it only where the memory keeps them.
    pub fn only_if_kept(&self) -> Mask {
        self.if_kept.minus(self.if_not)
    }
}

/// What names mean in the sets of one einsum.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scope {
    /// Names and what they stand for: constants, tensors, roles.
    pub names: Vec<(String, Mask)>,
    /// The memories further out.
    pub memories: Vec<String>,
    /// All operands.
    pub all: Mask,
}

/// The value of a set in a scope.
///
/// # Errors
/// The first thing that is wrong with its text.
pub fn resolve(text: &str, scope: &Scope) -> Result<Value, Wrong> {
    let mut reader = Reader { text, at: 0, scope };
    let value = reader.set(0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.wrong("expected `|`, `&` or `-` between sets"));
    }
    Ok(value)
}

/// How deep brackets and complements nest.
const MAX_DEPTH: usize = 64;

struct Reader<'a> {
    text: &'a str,
    at: usize,
    scope: &'a Scope,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, sign: char) -> bool {
        self.space();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len_utf8();
        }
        found
    }

    fn wrong(&self, message: &str) -> Wrong {
        Wrong {
            span: self.at..self.at + self.rest().chars().next().map_or(0, char::len_utf8),
            message: message.into(),
            help: "a tensor set is such as `All`, `input | output`, `~Intermediates`".into(),
        }
    }

    fn set(&mut self, depth: usize) -> Result<Value, Wrong> {
        let mut value = self.union(depth)?;
        while self.eat('-') {
            let start = self.at;
            let other = self.union(depth)?;
            let other = self.complement(other);
            value = self.join(value, other, Mask::and, start)?;
        }
        Ok(value)
    }

    fn union(&mut self, depth: usize) -> Result<Value, Wrong> {
        let mut value = self.meet(depth)?;
        while self.eat('|') {
            let start = self.at;
            let other = self.meet(depth)?;
            value = self.join(value, other, Mask::or, start)?;
        }
        Ok(value)
    }

    fn meet(&mut self, depth: usize) -> Result<Value, Wrong> {
        let mut value = self.factor(depth)?;
        while self.eat('&') {
            let start = self.at;
            let other = self.factor(depth)?;
            value = self.join(value, other, Mask::and, start)?;
        }
        Ok(value)
    }

    fn factor(&mut self, depth: usize) -> Result<Value, Wrong> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("this set nests too deep"));
        }
        if self.eat('~') {
            let value = self.factor(depth + 1)?;
            return Ok(self.complement(value));
        }
        if self.eat('(') {
            let value = self.set(depth + 1)?;
            if !self.eat(')') {
                return Err(self.wrong("expected `)`"));
            }
            return Ok(value);
        }
        self.atom()
    }

    fn complement(&self, value: Value) -> Value {
        Value {
            if_kept: self.scope.all.minus(value.if_kept),
            if_not: self.scope.all.minus(value.if_not),
            memory: value.memory,
        }
    }

    fn join(
        &self,
        a: Value,
        b: Value,
        with: fn(Mask, Mask) -> Mask,
        start: usize,
    ) -> Result<Value, Wrong> {
        if let (Some(x), Some(y)) = (&a.memory, &b.memory)
            && x != y
        {
            return Err(Wrong {
                span: start..self.at,
                message: format!("a set speaks of one memory, not of both `{x}` and `{y}`"),
                help: "write `must_keep_unless_above` for what is kept at no memory further out"
                    .into(),
            });
        }
        Ok(Value {
            if_kept: with(a.if_kept, b.if_kept),
            if_not: with(a.if_not, b.if_not),
            memory: a.memory.or(b.memory),
        })
    }

    fn atom(&mut self) -> Result<Value, Wrong> {
        self.space();
        let start = self.at;
        let rest = self.rest();
        let part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or("").to_string();
        if name.is_empty() {
            return Err(self.wrong("expected a tensor, a role or a set"));
        }
        self.at += end;
        let scope = self.scope;
        if let Some((_, mask)) = scope.names.iter().find(|(n, _)| *n == name) {
            return Ok(Value::fixed(mask.and(scope.all)));
        }
        let memory = name.strip_suffix(".tensors").unwrap_or(&name);
        if scope.memories.iter().any(|m| m == memory) {
            return Ok(Value {
                if_kept: scope.all,
                if_not: Mask::NONE,
                memory: Some(memory.to_string()),
            });
        }
        let known = scope.names.iter().map(|(n, _)| n).chain(&scope.memories);
        let known: Vec<&str> = known.map(String::as_str).collect();
        let near = presil_numerics::diagnostic::nearest_names(&name, known.iter().copied());
        Err(Wrong {
            span: start..self.at,
            message: format!("`{name}` is no tensor, role or memory further out"),
            help: match near.first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there is {}", presil_hwmodels::document::list(&known)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn scope() -> Scope {
        let names = [("All", 7), ("Nothing", 0), ("A", 1), ("W", 2), ("O", 4)];
        Scope {
            names: names.map(|(n, m)| (n.to_string(), Mask(m))).to_vec(),
            memories: vec!["dram".into(), "glb".into()],
            all: Mask(7),
        }
    }

    #[test]
    fn sets_follow_their_operators() {
        for (text, mask) in [
            ("All", 7),
            ("A | O", 5),
            ("~A", 6),
            ("~(A|W) | A", 5),
            ("All & ~ W", 5),
            ("All - A - O", 2),
            ("A | W & O", 1),
            ("Nothing", 0),
        ] {
            let value = resolve(text, &scope()).unwrap();
            assert_eq!(value, Value::fixed(Mask(mask)), "{text}");
        }
    }

    #[test]
    fn a_set_may_depend_on_what_is_kept_above() {
        let value = resolve("W | ~dram.tensors", &scope()).unwrap();
        assert_eq!((value.always(), value.unless_kept()), (Mask(2), Mask(5)));
        assert_eq!(value.memory.as_deref(), Some("dram"));
        let value = resolve("~dram & A", &scope()).unwrap();
        assert_eq!((value.always(), value.unless_kept()), (Mask(0), Mask(1)));
        let value = resolve("dram.tensors", &scope()).unwrap();
        assert_eq!(value.only_if_kept(), Mask(7));
    }

    #[test]
    fn mistakes_have_their_places() {
        let deep = "~".repeat(1000);
        for (text, at, expected) in [
            ("", 0, "expected a tensor"),
            ("A |", 3, "expected a tensor"),
            ("A B", 2, "`|`"),
            ("(A", 2, "`)`"),
            ("A | Ww", 4, "`Ww`"),
            ("~dram | glb", 7, "both"),
            ("é€", 0, "`é`"),
            (deep.as_str(), 65, "too deep"),
        ] {
            let wrong = resolve(text, &scope()).unwrap_err();
            assert_eq!(wrong.span.start, at, "{text}: {wrong:?}");
            assert!(wrong.message.contains(expected), "{text}: {wrong:?}");
        }
        assert!(resolve("al", &scope()).unwrap_err().help.contains("`All`"));
    }
}
