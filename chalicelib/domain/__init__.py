"""The rules, pure: no I/O, no clock, no boto3. Times are epoch seconds (float), UTC."""
