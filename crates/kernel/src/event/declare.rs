//! What a declaration of an event becomes: a variant, a kind, what is declared, and how its fields are read.

macro_rules! is_mark {
    (mark) => {
        true
    };
    (plain) => {
        false
    };
}

macro_rules! may_fold {
    (often) => {
        true
    };
    (once) => {
        false
    };
}

macro_rules! events {
    ($(
        #[doc = $meaning:literal]
        $variant:ident $name:literal $version:literal $level:ident $mark:ident $often:ident {
            $( #[doc = $about:literal] $field:ident : $type:ty ),* $(,)?
        } $sentence:literal
    )*) => {
        /// Something that happened and is worth knowing later.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Event {
            $( #[doc = $meaning] $variant { $( #[doc = $about] $field: $type, )* }, )*
        }

        /// What kind of event it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventKind {
            $( #[doc = $meaning] $variant, )*
        }

        impl EventKind {
            /// Every kind, in the order of the declarations.
            pub const ALL: &'static [EventKind] = &[ $( EventKind::$variant, )* ];

            /// What its declaration says.
            pub const fn declared(self) -> Declared {
                match self {
                    $( EventKind::$variant => Declared {
                        name: $name,
                        version: $version,
                        level: Level::$level,
                        is_mark: is_mark!($mark),
                        may_fold: may_fold!($often),
                        meaning: $meaning,
                        fields: &[ $( (stringify!($field), $about), )* ],
                        sentence: $sentence,
                    }, )*
                }
            }
        }

        impl Event {
            /// What kind it is.
            pub const fn kind(&self) -> EventKind {
                match self { $( Event::$variant { .. } => EventKind::$variant, )* }
            }

            /// What people read.
            #[allow(unused_variables, reason = "a sentence need not name every field")]
            pub fn sentence(&self) -> String {
                match self { $( Event::$variant { $( $field, )* } => format!($sentence), )* }
            }

            /// A text field by its name.
            pub fn text(&self, name: &str) -> Option<&str> {
                match self {
                    $( Event::$variant { $( $field, )* } => {
                        $( if name == stringify!($field) { return Field::as_text($field); } )*
                        None
                    } )*
                }
            }

            /// All fields, by name.
            pub fn data(&self) -> Map<String, Value> {
                let mut data = Map::new();
                match self {
                    $( Event::$variant { $( $field, )* } => {
                        $( data.insert(stringify!($field).to_owned(), value($field)); )*
                    } )*
                }
                data
            }
        }
    };
}
