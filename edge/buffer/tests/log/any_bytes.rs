//! Whatever stands in the files: the log can be looked at and repaired, opens, reads, goes on. The fuzz target does the same without end.

use proptest::prelude::*;

proptest! {
    #![proptest_config(crate::model::cases(1500))]

    #[test]
    fn whatever_stands_in_the_files_the_log_opens(data in prop::collection::vec(any::<u8>(), 0..60)) {
        crate::attack::attack(&data);
    }
}
