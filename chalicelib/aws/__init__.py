"""One port a file, on botocore's clients. Nothing outside this package imports botocore or boto3."""
