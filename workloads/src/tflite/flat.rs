//! Bounds-checked access to a flatbuffer: tables, vectors and strings of a byte slice.
//!
//! A table at position `t` begins with the signed distance to its vtable, `vtable = t - i32(t)`. The vtable holds
//! its own size, the table's size, and for each field the distance from `t` to its value, 0 where the field is
//! absent. Values that are tables, vectors or strings are distances to them; a vector begins with its length.
//! All numbers are little-endian. Every access is checked against the slice, and nothing is copied, so that a
//! damaged file gives an error whose cost is bounded by the file.

use super::error::TfliteError;

type Checked<T> = Result<T, TfliteError>;

fn malformed<T>(what: &str, at: usize) -> Checked<T> {
    Err(TfliteError::Malformed(format!("{what} at byte {at}")))
}

/// Bytes `at..at + N`.
fn fixed<const N: usize>(bytes: &[u8], at: usize) -> Checked<[u8; N]> {
    let end = at.checked_add(N);
    match end
        .and_then(|end| bytes.get(at..end))
        .and_then(|b| b.try_into().ok())
    {
        Some(b) => Ok(b),
        None => malformed("a value lies outside the file", at),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Checked<u16> {
    fixed(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Checked<u32> {
    fixed(bytes, at).map(u32::from_le_bytes)
}

/// Where the unsigned distance stored at a position leads.
fn target(bytes: &[u8], at: usize) -> Checked<usize> {
    let distance = u32_at(bytes, at)? as usize;
    match at.checked_add(distance).filter(|t| *t < bytes.len()) {
        Some(t) => Ok(t),
        None => malformed("an offset leads outside the file", at),
    }
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
    vtable: usize,
    /// Size of the vtable in bytes.
    size: usize,
}

impl<'a> Table<'a> {
    /// The root table of a file.
    pub(super) fn root(bytes: &'a [u8]) -> Checked<Self> {
        Self::at(bytes, target(bytes, 0)?)
    }

    fn at(bytes: &'a [u8], at: usize) -> Checked<Self> {
        let back = fixed(bytes, at).map(i32::from_le_bytes)?;
        let vtable = usize::try_from(at as i64 - i64::from(back))
            .ok()
            .filter(|v| *v < bytes.len());
        let Some(vtable) = vtable else {
            return malformed("a table whose layout lies outside the file", at);
        };
        let size = usize::from(u16_at(bytes, vtable)?);
        if size < 4 || vtable + size > bytes.len() {
            return malformed("a table whose layout is cut off", at);
        }
        Ok(Self {
            bytes,
            at,
            vtable,
            size,
        })
    }

    /// Where a field's value stands; `None` if the field is absent.
    fn field(&self, field: usize) -> Checked<Option<usize>> {
        let entry = 4 + 2 * field;
        if entry + 2 > self.size {
            return Ok(None);
        }
        let offset = usize::from(u16_at(self.bytes, self.vtable + entry)?);
        Ok((offset > 0).then_some(self.at + offset))
    }

    fn scalar<T, const N: usize>(
        &self,
        field: usize,
        default: T,
        read: fn([u8; N]) -> T,
    ) -> Checked<T> {
        match self.field(field)? {
            Some(at) => fixed(self.bytes, at).map(read),
            None => Ok(default),
        }
    }

    /// A byte.
    pub(super) fn u8(&self, field: usize, default: u8) -> Checked<u8> {
        self.scalar(field, default, u8::from_le_bytes)
    }

    /// A signed word.
    pub(super) fn i32(&self, field: usize, default: i32) -> Checked<i32> {
        self.scalar(field, default, i32::from_le_bytes)
    }

    /// An unsigned word.
    pub(super) fn u32(&self, field: usize, default: u32) -> Checked<u32> {
        self.scalar(field, default, u32::from_le_bytes)
    }

    /// An unsigned long word.
    pub(super) fn u64(&self, field: usize, default: u64) -> Checked<u64> {
        self.scalar(field, default, u64::from_le_bytes)
    }

    /// A table.
    pub(super) fn table(&self, field: usize) -> Checked<Option<Self>> {
        match self.field(field)? {
            Some(at) => Self::at(self.bytes, target(self.bytes, at)?).map(Some),
            None => Ok(None),
        }
    }

    /// A vector of elements of so many bytes; empty where the field is absent.
    pub(super) fn vector(&self, field: usize, width: usize) -> Checked<Vector<'a>> {
        let Some(at) = self.field(field)? else {
            return Ok(Vector {
                bytes: self.bytes,
                start: 0,
                length: 0,
                width,
            });
        };
        let at = target(self.bytes, at)?;
        let length = u32_at(self.bytes, at)? as usize;
        let start = at + 4;
        let end = length.checked_mul(width).and_then(|l| l.checked_add(start));
        if end.is_none_or(|end| end > self.bytes.len()) {
            return malformed("a vector is longer than the file", at);
        }
        Ok(Vector {
            bytes: self.bytes,
            start,
            length,
            width,
        })
    }

    /// A string; empty where the field is absent. What is not UTF-8 is replaced.
    pub(super) fn text(&self, field: usize) -> Checked<std::borrow::Cow<'a, str>> {
        self.vector(field, 1)
            .map(|v| String::from_utf8_lossy(v.raw()))
    }
}

/// A vector whose elements all lie in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector<'a> {
    bytes: &'a [u8],
    start: usize,
    length: usize,
    width: usize,
}

impl<'a> Vector<'a> {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The bytes of all elements.
    pub(super) fn raw(&self) -> &'a [u8] {
        let end = self.start + self.length * self.width;
        self.bytes.get(self.start..end).unwrap_or_default()
    }

    /// The elements as signed words; meant for vectors of words.
    pub(super) fn words(&self) -> impl Iterator<Item = i32> + use<'a> {
        let (words, _) = self.raw().as_chunks::<4>();
        words.iter().map(|w| i32::from_le_bytes(*w))
    }

    /// An element that is a table.
    pub(super) fn table(&self, index: usize) -> Checked<Table<'a>> {
        if index >= self.length {
            return malformed("an index past the end of a vector", self.start);
        }
        let at = self.start + 4 * index;
        Table::at(self.bytes, target(self.bytes, at)?)
    }
}
