//! `eq`, `lt` and their kin. Whole numbers and fractions compare by value, which Go refuses.

use std::cmp::Ordering;

use super::value::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    Equal,
    More,
}

pub(super) fn equal(left: &Value<'_>, right: &Value<'_>) -> Result<bool, String> {
    match (left, right) {
        (Value::Nil | Value::Missing, Value::Nil | Value::Missing) => Ok(true),
        (Value::Nil | Value::Missing, _) | (_, Value::Nil | Value::Missing) => Ok(false),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        _ => Ok(compare(left, right)? == Some(Order::Equal)),
    }
}

/// Orders two values of one kind; `None` where one is no number (NaN).
pub(super) fn compare(left: &Value<'_>, right: &Value<'_>) -> Result<Option<Order>, String> {
    let order = match (left, right) {
        (Value::Str(left), Value::Str(right)) => Some(left.as_str().cmp(right.as_str())),
        (Value::Float(_), _) | (_, Value::Float(_)) => match (float(left), float(right)) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            _ => return Err(incomparable(left, right)),
        },
        _ => match (whole(left), whole(right)) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => return Err(incomparable(left, right)),
        },
    };
    Ok(order.map(|order| match order {
        Ordering::Less => Order::Less,
        Ordering::Equal => Order::Equal,
        Ordering::Greater => Order::More,
    }))
}

fn incomparable(left: &Value<'_>, right: &Value<'_>) -> String {
    format!("cannot compare {} with {}", left.kind(), right.kind())
}

fn whole(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "against a fraction, fifteen digits decide")]
fn float(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        other => whole(other).map(|number| number as f64),
    }
}
