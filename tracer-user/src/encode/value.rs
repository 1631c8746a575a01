//! Values of fields. The functions give `None` for what is empty, so that no encoder writes it.

use std::borrow::Cow;

use jiff::Timestamp;

use super::scope::Scope;

/// A value of a field.
pub(super) enum Value<'a> {
    Bool(bool),
    Number(u64),
    Time(Timestamp),
    Text(Cow<'a, str>),
    /// Text of a traced process or the file system: any bytes.
    Bytes(Cow<'a, [u8]>),
    List(Vec<Value<'a>>),
    /// Numbers by a name that is not known before.
    Counts(&'a [(String, u64)]),
    /// Texts by a name that is not known before.
    Labels(&'a [(String, String)]),
}

pub(super) fn text(text: &str) -> Option<Value<'_>> {
    (!text.is_empty()).then_some(Value::Text(Cow::Borrowed(text)))
}

pub(super) fn owned<'a>(text: String) -> Option<Value<'a>> {
    (!text.is_empty()).then_some(Value::Text(Cow::Owned(text)))
}

pub(super) fn bytes(bytes: &[u8]) -> Option<Value<'_>> {
    (!bytes.is_empty()).then_some(Value::Bytes(Cow::Borrowed(bytes)))
}

/// A number, at most the largest `long`: a store refuses the whole document over a larger one.
pub(super) fn number<'a>(number: impl Into<u64>) -> Option<Value<'a>> {
    Some(Value::Number(number.into().min(i64::MAX.unsigned_abs())))
}

/// A number that is zero where it is not known.
pub(super) fn nonzero<'a>(value: impl Into<u64>) -> Option<Value<'a>> {
    let value = value.into();
    if value == 0 { None } else { number(value) }
}

/// A number that names something: ECS keeps those as keywords.
pub(super) fn decimal<'a>(number: impl Into<u64>) -> Option<Value<'a>> {
    owned(number.into().to_string())
}

/// A fact that is worth telling only where it is so.
pub(super) fn only<'a>(fact: bool) -> Option<Value<'a>> {
    fact.then_some(Value::Bool(true))
}

/// A moment. None where it is outside what RFC 3339 can say.
pub(super) fn time(scope: Scope<'_>, boot_ns: u64) -> Option<Value<'_>> {
    Timestamp::from_nanosecond(scope.wall(boot_ns))
        .ok()
        .map(Value::Time)
}

pub(super) fn words<'a>(words: Vec<&'static str>) -> Option<Value<'a>> {
    list(words.into_iter().map(|word| Value::Text(word.into())))
}

pub(super) fn strings<'a>(strings: impl IntoIterator<Item = String>) -> Option<Value<'a>> {
    list(strings.into_iter().map(|text| Value::Text(text.into())))
}

pub(super) fn numbers<'a>(numbers: &[u16]) -> Option<Value<'a>> {
    list(numbers.iter().map(|number| Value::Number((*number).into())))
}

pub(super) fn labels(labels: &[(String, String)]) -> Option<Value<'_>> {
    (!labels.is_empty()).then_some(Value::Labels(labels))
}

pub(super) fn list<'a>(items: impl Iterator<Item = Value<'a>>) -> Option<Value<'a>> {
    let items: Vec<_> = items.collect();
    (!items.is_empty()).then_some(Value::List(items))
}
