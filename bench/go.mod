module mce-bench

go 1.19
