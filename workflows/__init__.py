"""Who runs what where; composes stages and holds no algorithm. (Not the module inside llama-index.)"""
