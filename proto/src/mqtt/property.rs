//! The properties of MQTT 5 (section 2.2.2): which exist, what they hold, where they may stand.

use super::read::{Fault, Reader};

/// What is wrong with a list of properties.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PropertyError {
    /// An identifier that MQTT 5 does not define.
    #[error("property 0x{id:02X} does not exist in MQTT 5")]
    Unknown {
        /// The identifier found.
        id: u8,
    },
    /// A property of another packet.
    #[error("property 0x{id:02X} does not belong here")]
    Misplaced {
        /// The identifier found.
        id: u8,
    },
    /// A property that may stand once.
    #[error("property 0x{id:02X} is there twice")]
    Repeated {
        /// The identifier found.
        id: u8,
    },
    /// A value outside what the property allows.
    #[error("property 0x{id:02X} has the value {value}, {want}")]
    BadValue {
        /// The identifier found.
        id: u8,
        /// The value found.
        value: u32,
        /// What would be right.
        want: &'static str,
    },
    /// A property that runs out of its list.
    #[error("property 0x{id:02X} needs {needs} more bytes, {left} are left in the list")]
    PastEnd {
        /// The identifier found.
        id: u8,
        /// Bytes wanted by the next field.
        needs: usize,
        /// Bytes left.
        left: usize,
    },
    /// A string that MQTT forbids.
    #[error("property 0x{id:02X} {problem}")]
    BadText {
        /// The identifier found.
        id: u8,
        /// What is wrong with the text.
        problem: &'static str,
    },
    /// The length of the list is malformed.
    #[error("the length of the list is malformed, want 1 to 4 bytes in the shortest form")]
    BadLength,
    /// Authentication data without a method.
    #[error("authentication data is there without an authentication method")]
    DataWithoutMethod,
}

pub(super) const PAYLOAD_FORMAT: u8 = 0x01;
pub(super) const MESSAGE_EXPIRY: u8 = 0x02;
pub(super) const CONTENT_TYPE: u8 = 0x03;
pub(super) const RESPONSE_TOPIC: u8 = 0x08;
pub(super) const CORRELATION_DATA: u8 = 0x09;
pub(super) const SESSION_EXPIRY: u8 = 0x11;
pub(super) const ASSIGNED_CLIENT_ID: u8 = 0x12;
pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(super) const AUTH_METHOD: u8 = 0x15;
pub(super) const AUTH_DATA: u8 = 0x16;
pub(super) const REQUEST_PROBLEM: u8 = 0x17;
pub(super) const WILL_DELAY: u8 = 0x18;
pub(super) const REQUEST_RESPONSE: u8 = 0x19;
pub(super) const RESPONSE_INFORMATION: u8 = 0x1A;
pub(super) const SERVER_REFERENCE: u8 = 0x1C;
pub(super) const REASON_STRING: u8 = 0x1F;
pub(super) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(super) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
pub(super) const MAXIMUM_QOS: u8 = 0x24;
pub(super) const RETAIN_AVAILABLE: u8 = 0x25;
pub(super) const USER_PROPERTY: u8 = 0x26;
pub(super) const MAXIMUM_PACKET: u8 = 0x27;
pub(super) const WILDCARD_AVAILABLE: u8 = 0x28;
pub(super) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
pub(super) const SHARED_AVAILABLE: u8 = 0x2A;

/// The highest identifier of MQTT 5, so that a set of them fits one `u64`.
const LAST: u8 = SHARED_AVAILABLE;

/// A set of identifiers.
pub(super) const fn set(ids: &[u8]) -> u64 {
    let mut bits = 0;
    let mut index = 0;
    while index < ids.len() {
        bits |= 1 << ids[index];
        index += 1;
    }
    bits
}

/// The value of one property.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Number(u32),
    Text(&'a str),
    Binary,
    Pair,
}

/// Reads every property of `list`; each must be in `allowed` and, but for user properties, stand once.
///
/// Only [`Fault::Short`] is passed on as such: every other fault of a field becomes a [`PropertyError`].
#[inline]
pub(super) fn walk<'a>(
    mut list: Reader<'a>,
    allowed: u64,
    mut each: impl FnMut(u8, Value<'a>),
) -> Result<(), Stop> {
    let mut seen = 0_u64;
    while list.left() > 0 {
        let id = list.u8("property").map_err(|fault| stop(0, fault))?;
        if id > LAST {
            return Err(PropertyError::Unknown { id }.into());
        }
        let value = read(&mut list, id)?;
        let bit = 1 << id;
        if allowed & bit == 0 {
            return Err(PropertyError::Misplaced { id }.into());
        }
        if seen & bit != 0 && id != USER_PROPERTY {
            return Err(PropertyError::Repeated { id }.into());
        }
        seen |= bit;
        each(id, value);
    }
    if seen & (1 << AUTH_DATA) != 0 && seen & (1 << AUTH_METHOD) == 0 {
        return Err(PropertyError::DataWithoutMethod.into());
    }
    Ok(())
}

/// Why a list could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stop {
    Short,
    Bad(PropertyError),
}

impl From<PropertyError> for Stop {
    fn from(error: PropertyError) -> Self {
        Self::Bad(error)
    }
}

fn stop(id: u8, fault: Fault) -> Stop {
    Stop::Bad(match fault {
        Fault::Short => return Stop::Short,
        Fault::PastEnd { needs, left, .. } => PropertyError::PastEnd { id, needs, left },
        Fault::Text { problem, .. } => PropertyError::BadText { id, problem },
        Fault::VarInt { .. } => PropertyError::BadLength,
    })
}

fn read<'a>(list: &mut Reader<'a>, id: u8) -> Result<Value<'a>, Stop> {
    let stop = |fault| stop(id, fault);
    let value = match id {
        PAYLOAD_FORMAT
        | REQUEST_PROBLEM
        | REQUEST_RESPONSE
        | MAXIMUM_QOS
        | RETAIN_AVAILABLE
        | WILDCARD_AVAILABLE
        | SUBSCRIPTION_IDS_AVAILABLE
        | SHARED_AVAILABLE => {
            let value = list.u8("property").map_err(stop)?.into();
            if value > 1 {
                let want = "want 0 or 1";
                return Err(PropertyError::BadValue { id, value, want }.into());
            }
            Value::Number(value)
        }
        SERVER_KEEP_ALIVE | TOPIC_ALIAS_MAXIMUM => {
            Value::Number(list.u16("property").map_err(stop)?.into())
        }
        RECEIVE_MAXIMUM => positive(id, list.u16("property").map_err(stop)?.into())?,
        MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY => {
            Value::Number(list.u32("property").map_err(stop)?)
        }
        MAXIMUM_PACKET => positive(id, list.u32("property").map_err(stop)?)?,
        CONTENT_TYPE | RESPONSE_TOPIC | ASSIGNED_CLIENT_ID | AUTH_METHOD | RESPONSE_INFORMATION
        | SERVER_REFERENCE | REASON_STRING => Value::Text(list.text("property").map_err(stop)?),
        CORRELATION_DATA | AUTH_DATA => {
            list.binary("property").map_err(stop)?;
            Value::Binary
        }
        USER_PROPERTY => {
            list.text("name").map_err(stop)?;
            list.text("value").map_err(stop)?;
            Value::Pair
        }
        // 0x0B and 0x23 belong to PUBLISH and SUBSCRIBE; the rest is not defined at all.
        0x0B | 0x23 => return Err(PropertyError::Misplaced { id }.into()),
        _ => return Err(PropertyError::Unknown { id }.into()),
    };
    Ok(value)
}

fn positive<'a>(id: u8, value: u32) -> Result<Value<'a>, Stop> {
    if value == 0 {
        let want = "want at least 1";
        return Err(PropertyError::BadValue { id, value, want }.into());
    }
    Ok(Value::Number(value))
}
