module asynccopy/testbed/stub

go 1.21
