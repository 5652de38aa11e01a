"""One port a file, on boto3. Nothing outside this package imports boto3."""
