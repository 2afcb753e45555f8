"""Official names and sizes of VQAv2's parts."""

# Our name of a split -> (official name, folder of its images, official number of questions).
OFFICIAL = {
    "train": ("train2014", "train2014", 443_757),
    "val": ("val2014", "val2014", 214_354),
    "test": ("test2015", "test2015", 447_793),
    "test-dev": ("test-dev2015", "test2015", 107_394),
}
