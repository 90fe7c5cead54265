//! The error codes of Google's APIs (`google/rpc/code.proto`): each with its number, its name and its HTTP status.

/// Makes the enum and everything that is known of its codes from one table.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $number:literal, $name:literal, $http_status:literal;)*) => {
        /// google.rpc.Code without OK, which is no error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $code = $number,)*
        }

        impl Code {
            /// Every code, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// The code with this number; none for OK and for what `code.proto` does not know.
            #[must_use]
            pub const fn from_number(number: i32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$code),)*
                    _ => None,
                }
            }

            /// The code with this name, such as `UNAVAILABLE`.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$code),)*
                    _ => None,
                }
            }

            /// Its name, such as `UNAVAILABLE`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)*
                }
            }

            /// The HTTP status that it is sent with.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self {
                    $(Self::$code => $http_status,)*
                }
            }
        }
    };
}

codes! {
    /// The operation was cancelled.
    Cancelled = 1, "CANCELLED", 499;
    /// Nothing more is known.
    Unknown = 2, "UNKNOWN", 500;
    /// The request is wrong, whatever the state of the system.
    InvalidArgument = 3, "INVALID_ARGUMENT", 400;
    /// The time was over before the end.
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED", 504;
    /// There is no such entity.
    NotFound = 5, "NOT_FOUND", 404;
    /// The entity is there already.
    AlreadyExists = 6, "ALREADY_EXISTS", 409;
    /// The caller may not do this.
    PermissionDenied = 7, "PERMISSION_DENIED", 403;
    /// A quota or the space is used up.
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED", 429;
    /// The system is not in the state that the request needs.
    FailedPrecondition = 9, "FAILED_PRECONDITION", 400;
    /// A conflict with something that happened at the same time.
    Aborted = 10, "ABORTED", 409;
    /// Past the valid range.
    OutOfRange = 11, "OUT_OF_RANGE", 400;
    /// Not implemented, supported or enabled.
    Unimplemented = 12, "UNIMPLEMENTED", 501;
    /// The service is broken.
    Internal = 13, "INTERNAL", 500;
    /// The service cannot be used now.
    Unavailable = 14, "UNAVAILABLE", 503;
    /// Data is lost or corrupt.
    DataLoss = 15, "DATA_LOSS", 500;
    /// The caller is not known.
    Unauthenticated = 16, "UNAUTHENTICATED", 401;
}

impl Code {
    /// Its number, 1 to 16.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The code that a status stands for where only the status is given.
    #[must_use]
    pub fn from_http_status(status: u16) -> Option<Self> {
        match status {
            // Several codes have these; the most common one is meant.
            400 => Some(Self::InvalidArgument),
            409 => Some(Self::Aborted),
            500 => Some(Self::Internal),
            _ => Self::ALL.iter().copied().find(|code| code.http_status() == status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_numbers_of_google_rpc_without_a_gap_and_are_found_by_number_and_name() {
        let numbers: Vec<i32> = Code::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
        for &code in Code::ALL {
            assert_eq!((Code::from_number(code.number()), Code::from_name(code.name())), (Some(code), Some(code)));
            assert_eq!(format!("{code:?}").to_uppercase(), code.name().replace('_', ""));
        }
        for number in [0, 17, -1, i32::MAX, i32::MIN] {
            assert_eq!(Code::from_number(number), None);
        }
        for name in ["OK", "", "cancelled", "CANCELLED ", "MISLAID"] {
            assert_eq!(Code::from_name(name), None);
        }
    }

    #[test]
    fn a_bare_status_stands_for_its_usual_code() {
        let of = |status| Code::from_http_status(status).map(Code::name);
        assert_eq!(of(400), Some("INVALID_ARGUMENT"));
        assert_eq!(of(409), Some("ABORTED"));
        assert_eq!(of(500), Some("INTERNAL"));
        assert_eq!(of(503), Some("UNAVAILABLE"));
        for unused in [0, 200, 302, 402, 405, 408, 416, 502, 599] {
            assert_eq!(of(unused), None, "{unused}");
        }
        for &code in Code::ALL {
            let found = Code::from_http_status(code.http_status()).expect("every code's status stands for one");
            assert_eq!(found.http_status(), code.http_status());
        }
    }
}
