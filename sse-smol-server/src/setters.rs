//! Setters of configurations.

/// Implements a setter for each of some public fields. Configurations are `#[non_exhaustive]`, so
/// users cannot write them as literals: they assign fields or chain setters.
macro_rules! setters {
    ($config:ty { $($setter:ident => $field:ident: $value:ty,)* }) => {
        impl $config {$(
            #[doc = concat!(
                "Returns the configuration with this [`", stringify!($field), "`](Self::",
                stringify!($field), ").",
            )]
            #[must_use]
            pub fn $setter(mut self, $field: $value) -> Self {
                self.$field = $field;
                self
            }
        )*}
    };
}

pub(crate) use setters;
