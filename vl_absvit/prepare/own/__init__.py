"""From tables of one's own to prepared data: the readers that own questions and own captions share."""
