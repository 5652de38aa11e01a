"""CloudFormation for the stand-in: change sets, events with dwell times, refusals and rollbacks.

It is a client of the stand-in's own AWS endpoint, as CloudFormation is of AWS: what a stack makes lies in the
account, with its tags, and is gone when the stack is. Types that moto cannot hold are only noted (`makers.RECORDED`).
"""
